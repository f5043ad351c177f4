/*
 * The least that a KVM client in C does for an exit: the peer of the bench "exits".
 * Usage: kvm-exits CODE-FILE. Runs the code at 0x1000 in flat 32-bit protected mode, answers every access, and prints the
 * time between each two writes to port 0x402, in nanoseconds, one a line; a write to port 0xf4 ends it.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { memory_bytes = 1 << 20, code_address = 0x1000, mark_port = 0x402, end_port = 0xf4 };

static void check(int result, const char *what) {
  if (result >= 0) return;
  perror(what);
  exit(1);
}

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void enter_protected_mode(int vcpu) {
  struct kvm_sregs sregs;
  check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  struct kvm_segment flat = { .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1 };
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
  flat.selector = 8;
  flat.type = 11;
  sregs.cs = flat;
  sregs.cr0 |= 1;
  check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  struct kvm_regs regs = { .rip = code_address, .rflags = 2 };
  check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

int main(int count, char **words) {
  if (count != 2) return 2;
  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  check(kvm, "/dev/kvm");
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  check(vm, "KVM_CREATE_VM");
  check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfeffd000), "KVM_SET_TSS_ADDR");
  char *memory = mmap(0, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int code = open(words[1], O_RDONLY);
  check(code, words[1]);
  check(read(code, memory + code_address, memory_bytes - code_address), words[1]);
  struct kvm_userspace_memory_region region = { .memory_size = memory_bytes, .userspace_addr = (unsigned long)memory };
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  check(vcpu, "KVM_CREATE_VCPU");
  int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  struct kvm_run *run = mmap(0, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  enter_protected_mode(vcpu);
  for (long long mark = now_ns();;) {
    check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    switch (run->exit_reason) {
      case KVM_EXIT_IO:
        if (run->io.port == end_port) return 0;
        if (run->io.port == mark_port) {
          long long now = now_ns();
          printf("%lld\n", now - mark);
          mark = now_ns();
        } else if (run->io.direction == KVM_EXIT_IO_IN) {
          *((char *)run + run->io.data_offset) = 0x5a;
        }
        break;
      case KVM_EXIT_MMIO:
        if (!run->mmio.is_write) memset(run->mmio.data, 0x5a, run->mmio.len);
        break;
      default:
        fprintf(stderr, "exit %u\n", run->exit_reason);
        return 1;
    }
  }
}
