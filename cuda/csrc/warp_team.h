// Threads that do one call's phases together.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

class Team {
 public:
  explicit Team(int n) : n_(n) {}

  int size() const { return n_; }

  // Does the same work in all threads, one of them the caller's: work(thread).
  template <class Work>
  void run(Work work) {
    std::vector<std::thread> threads;
    for (int i = 1; i < n_; i++) threads.emplace_back(work, i);
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

  // A phase, called by all threads alike: work(first, last) for runs of rows; returns when all rows are done.
  template <class Work>
  void rows(int n, Work work) {
    for (int first; (first = next_.fetch_add(ROWS)) < n;) work(first, std::min(first + ROWS, n));
    wait();
  }

  // A phase of one thread.
  template <class Work>
  void once(Work work) {
    rows(1, [&](int, int) { work(); });
  }

 private:
  enum { ROWS = 8, LOOKS = 4000 };  // LOOKS: some microseconds

  // Most phases end at nearly the same time in all threads: waking one up would take longer than looking again.
  void wait() {
    const int phase = phase_.load();
    if (arrived_.fetch_add(1) + 1 == n_) {
      arrived_ = 0;
      next_ = 0;
      std::lock_guard<std::mutex> lock(mutex_);
      phase_++;
      all_.notify_all();
      return;
    }
    for (int i = 0; i < LOOKS; i++)
      if (phase_.load(std::memory_order_acquire) != phase) return;
    std::unique_lock<std::mutex> lock(mutex_);
    all_.wait(lock, [&] { return phase_ != phase; });
  }

  const int n_;
  std::atomic<int> next_{0}, arrived_{0}, phase_{0};
  std::mutex mutex_;
  std::condition_variable all_;
};
