// Work for several threads.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

// Does the same work in several threads at once, one of them the caller's.
template <class Work>
static void run_threads(int n, Work work) {
  std::vector<std::thread> threads;
  for (int i = 1; i < n; i++) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}
