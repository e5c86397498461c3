// Memory that grows to what the largest step needed and stays, and loops over threads.
#pragma once
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <new>
#include <thread>
#include <vector>

// A growing run of plain numbers, aligned for vectors; what is appended is not initialised. Up to 64 bytes may be
// written behind the end.
template <class T>
class Buffer {
 public:
  Buffer() {}
  Buffer(Buffer&& from) : data_(from.data_), size_(from.size_), capacity_(from.capacity_) {
    from.data_ = 0;
    from.size_ = from.capacity_ = 0;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

  // Empties the buffer and makes it n long.
  T* reset(size_t n) {
    size_ = 0;
    return append(n);
  }
  // Returns the first of n new elements.
  T* append(size_t n) {
    reserve(size_ + n);
    size_ += n;
    return data_ + (size_ - n);
  }
  void shorten(size_t size) { size_ = size; }
  void push(T value) { *append(1) = value; }

  void reserve(size_t n) {
    if (n <= capacity_ && data_) return;
    const size_t capacity = n + n / 2;
    void* block = 0;
    if (posix_memalign(&block, 64, (capacity * sizeof(T) + 191) / 64 * 64)) throw std::bad_alloc();
    if (size_) memcpy(block, data_, size_ * sizeof(T));
    free(data_);
    data_ = (T*)block;
    capacity_ = capacity;
  }

 private:
  T* data_ = 0;
  size_t size_ = 0, capacity_ = 0;
};

// Calls work(thread, item) for every item; the threads take the items in order.
template <class Work>
static void parallel(int threads, int n_items, Work work) {
  std::atomic<int> next{0};
  auto run = [&](int thread) {
    for (int item = next++; item < n_items; item = next++) work(thread, item);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads && i < n_items; i++) others.emplace_back(run, i);
  run(0);
  for (std::thread& thread : others) thread.join();
}
