/*
 * A small client of /dev/kvm for guests of ours: runs tiny guests of every mode, and says what came of each.
 *
 *   kvm-client              every tiny guest; the exit status is the number of those that failed
 *   kvm-client exits N      N round trips of each kind of exit, with their times
 *   kvm-client boot KERNEL INITRD MEGABYTES COMMANDLINE
 *                           boots a bzImage; its first serial port is the output, its reset the end
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  tiny_memory_bytes = 2 << 20,
  code_at = 0x1000,
  stack_top = 0x8000,
  gdt_at = 0x9000,
  idt_at = 0xa000,
  tables_at = 0x10000,
  data_at = 0x20000,
  serial_port = 0x3f8,
};
static const uint64_t device_at = 0xd0000000;

struct machine {
  int vm, vcpu;
  uint8_t *memory;
  size_t memory_size;
  struct kvm_run *run;
  char output[256];
  size_t output_length;
  /* The device: what was written last, and what it answers. */
  uint64_t written, answer;
  unsigned mmio_exits;
};

static int kvm;

static void die(const char *what) {
  fprintf(stderr, "kvm-client: %s: %s\n", what, strerror(errno));
  exit(120);
}

static int call(int fd, unsigned long request, void *argument, const char *what) {
  int result = ioctl(fd, request, argument);
  if (result < 0) die(what);
  return result;
}

static struct machine *create(size_t memory_size, int with_irqchip) {
  struct machine *m = calloc(1, sizeof *m);
  m->memory_size = memory_size;
  m->vm = call(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
  uint64_t identity_map = 0xfffbc000;
  call(m->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR");
  call(m->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000, "KVM_SET_TSS_ADDR");
  if (with_irqchip) call(m->vm, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
  m->memory = mmap(0, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (m->memory == MAP_FAILED) die("mmap");
  struct kvm_userspace_memory_region region = {.memory_size = memory_size, .userspace_addr = (uintptr_t)m->memory};
  call(m->vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
  m->vcpu = call(m->vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
  int run_bytes = call(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
  m->run = mmap(0, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
  if (m->run == MAP_FAILED) die("mmap of kvm_run");
  struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[100];
  } cpuid = {.head.nent = 100};
  call(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid, "KVM_GET_SUPPORTED_CPUID");
  for (unsigned i = 0; i < cpuid.head.nent; i++) {
    /* There is a hypervisor: KVM leaves it to its clients to say so. */
    if (cpuid.entries[i].function == 1) cpuid.entries[i].ecx |= 1u << 31;
  }
  call(m->vcpu, KVM_SET_CPUID2, &cpuid, "KVM_SET_CPUID2");
  return m;
}

static void destroy(struct machine *m) {
  close(m->vcpu);
  close(m->vm);
  munmap(m->memory, m->memory_size);
  free(m);
}

static void put64(struct machine *m, unsigned at, uint64_t value) { memcpy(m->memory + at, &value, 8); }
static void put32(struct machine *m, unsigned at, uint32_t value) { memcpy(m->memory + at, &value, 4); }

static void load(struct machine *m, const void *code, size_t bytes) { memcpy(m->memory + code_at, code, bytes); }

static struct kvm_regs registers(struct machine *m) {
  struct kvm_regs regs;
  call(m->vcpu, KVM_GET_REGS, &regs, "KVM_GET_REGS");
  return regs;
}

static void start(struct machine *m) {
  struct kvm_regs regs = {.rip = code_at, .rsp = stack_top, .rflags = 2};
  call(m->vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

/* Real-address mode with all segments at 0. */
static void real_mode(struct machine *m) {
  struct kvm_sregs sregs;
  call(m->vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
  struct kvm_segment *segments[] = {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs};
  for (int i = 0; i < 6; i++) segments[i]->base = segments[i]->selector = 0;
  call(m->vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
  start(m);
}

enum paging { no_paging, legacy_paging, pae_paging, long_paging };

static void flat(struct kvm_segment *segment, int type, int selector, int is_long) {
  *segment = (struct kvm_segment){
    .limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1,
    .db = !is_long, .l = is_long,
  };
}

/* Protected or 64-bit mode; the first 2 MiB and the device are mapped to themselves. */
static void protected_mode(struct machine *m, enum paging paging) {
  struct kvm_sregs sregs;
  call(m->vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
  int is_long = paging == long_paging;
  put64(m, gdt_at + 8, is_long ? 0x00af9b000000ffff : 0x00cf9b000000ffff);
  put64(m, gdt_at + 16, 0x00cf93000000ffff);
  flat(&sregs.cs, 11, 8, is_long);
  struct kvm_segment *data[] = {&sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs};
  for (int i = 0; i < 5; i++) flat(data[i], 3, 16, 0);
  sregs.gdt.base = gdt_at;
  sregs.gdt.limit = 23;
  sregs.idt.base = idt_at;
  sregs.idt.limit = 0xfff;
  sregs.cr0 |= 1;
  enum { present = 1, writable = 2, large = 0x80 };
  const uint64_t flags = present | writable;
  if (paging != no_paging) {
    sregs.cr0 |= 1u << 31;
    sregs.cr3 = tables_at;
  }
  if (paging == legacy_paging) {
    sregs.cr4 |= 0x10;
    put32(m, tables_at, flags | large);
    put32(m, tables_at + (device_at >> 22) * 4, device_at | flags | large);
  }
  if (paging == pae_paging || is_long) {
    sregs.cr4 |= 0x20;
    unsigned pointers = is_long ? tables_at + 0x1000 : tables_at;
    if (is_long) put64(m, tables_at, pointers | flags);
    for (int i = 0; i < 4; i++) put64(m, pointers + i * 8, (tables_at + 0x2000 + i * 0x1000) | (is_long ? flags : present));
    put64(m, tables_at + 0x2000, flags | large);
    put64(m, tables_at + 0x2000 + (device_at >> 21) * 8, device_at | flags | large);
  }
  if (is_long) sregs.efer |= 0x500;
  call(m->vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
  start(m);
}

/* Runs to HLT, shutdown or what is not expected; the reason. */
static int run(struct machine *m) {
  for (;;) {
    if (ioctl(m->vcpu, KVM_RUN, 0) < 0) {
      if (errno == EINTR) continue;
      die("KVM_RUN");
    }
    struct kvm_run *run = m->run;
    if (run->exit_reason == KVM_EXIT_IO) {
      uint8_t *data = (uint8_t *)run + run->io.data_offset;
      if (run->io.direction == KVM_EXIT_IO_IN) {
        memset(data, 0x5a, run->io.size * run->io.count);
        continue;
      }
      for (unsigned i = 0; i < run->io.count * run->io.size && run->io.port == serial_port; i++) {
        if (m->output_length < sizeof m->output - 1) m->output[m->output_length++] = data[i];
      }
      continue;
    }
    if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr >= device_at) {
      m->mmio_exits++;
      if (run->mmio.is_write) {
        m->written = 0;
        memcpy(&m->written, run->mmio.data, run->mmio.len);
      } else {
        memcpy(run->mmio.data, &m->answer, run->mmio.len);
      }
      continue;
    }
    return run->exit_reason;
  }
}

/* What went wrong, or 0. */
static const char *expect(struct machine *m, int reason, int wanted, const char *output) {
  static char text[320];
  if (reason != wanted) {
    struct kvm_regs regs = registers(m);
    snprintf(text, sizeof text, "exit reason %d (hardware %llx), wanted %d, at %llx", reason,
             (unsigned long long)m->run->hw.hardware_exit_reason, wanted, (unsigned long long)regs.rip);
    return text;
  }
  if (strcmp(m->output, output) == 0) return 0;
  snprintf(text, sizeof text, "it said \"%s\"", m->output);
  return text;
}

static const char *real_guest(struct machine *m) {
  static const uint8_t code[] = {
    0xba, 0xf8, 0x03,             /* mov dx, 0x3f8 */
    0xb0, 'r', 0xee,              /* mov al, 'r'; out dx, al */
    0xbe, 0x30, 0x10,             /* mov si, 0x1030 */
    0xb9, 0x03, 0x00, 0xfc,       /* mov cx, 3; cld */
    0xf3, 0x6e,                   /* rep outsb */
    0xb8, 0x00, 0x20, 0x8e, 0xd8, /* mov ax, 0x2000; mov ds, ax */
    0xc7, 0x06, 0x10, 0x00, 0x34, 0x12, /* mov word [0x10], 0x1234 */
    0xf4,                         /* hlt */
  };
  real_mode(m);
  load(m, code, sizeof code);
  memcpy(m->memory + 0x1030, "eal", 3);
  const char *problem = expect(m, run(m), KVM_EXIT_HLT, "real");
  if (problem) return problem;
  return m->memory[0x20010] == 0x34 && m->memory[0x20011] == 0x12 ? 0 : "the store went elsewhere";
}

/* mov dx, 0x3f8; mov al, c; out dx, al: the same bytes in 32- and 64-bit mode. */
#define SAY(c) 0x66, 0xba, 0xf8, 0x03, 0xb0, (c), 0xee

static const uint8_t flat_code[] = {
  0xb9, 0xe8, 0x03, 0x00, 0x00,       /* mov ecx, 1000 */
  0x31, 0xc0,                         /* xor eax, eax */
  0x01, 0xc8, 0x83, 0xe9, 0x01, 0x75, 0xf9, /* again: add eax, ecx; sub ecx, 1; jnz again */
  0xbb, 0x00, 0x00, 0x02, 0x00,       /* mov ebx, data_at */
  0x89, 0x03,                         /* mov [ebx], eax */
  0xbb, 0x00, 0x00, 0x00, 0xd0,       /* mov ebx, device_at */
  0x89, 0x03,                         /* mov [ebx], eax */
  0x8b, 0x73, 0x10,                   /* mov esi, [ebx + 0x10] */
  0x83, 0x43, 0x20, 0x01,             /* add dword [ebx + 0x20], 1 */
  0xbb, 0x04, 0x00, 0x02, 0x00,       /* mov ebx, data_at + 4 */
  0x89, 0x33,                         /* mov [ebx], esi */
  SAY('o'), SAY('k'),
  0xf4,                               /* hlt */
};

static const char *flat_guest(struct machine *m, enum paging paging) {
  protected_mode(m, paging);
  load(m, flat_code, sizeof flat_code);
  m->answer = 0x1234567;
  const char *problem = expect(m, run(m), KVM_EXIT_HLT, "ok");
  if (problem) return problem;
  uint32_t results[2];
  memcpy(results, m->memory + data_at, 8);
  if (results[0] != 500500) return "the sum is wrong";
  if (results[1] != 0x1234567) return "the device was read wrongly";
  if (m->written != 0x1234568) return "the device was written wrongly";
  return m->mmio_exits == 4 ? 0 : "wrong number of accesses to the device";
}

static const char *protected_guest(struct machine *m) { return flat_guest(m, no_paging); }
static const char *legacy_guest(struct machine *m) { return flat_guest(m, legacy_paging); }
static const char *pae_guest(struct machine *m) { return flat_guest(m, pae_paging); }
static const char *long_guest(struct machine *m) { return flat_guest(m, long_paging); }

/* From real mode to protected mode by itself. */
static const char *switching_guest(struct machine *m) {
  static const uint8_t code[] = {
    0x0f, 0x01, 0x16, 0x30, 0x10,       /* lgdt [0x1030] */
    0x0f, 0x20, 0xc0,                   /* mov eax, cr0 */
    0x0c, 0x01,                         /* or al, 1 */
    0x0f, 0x22, 0xc0,                   /* mov cr0, eax */
    0x66, 0xea, 0x15, 0x10, 0x00, 0x00, 0x08, 0x00, /* jmp dword 8:0x1015 */
    SAY('s'),
    0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, /* mov ax, 0x10; mov ds, ax */
    0xa1, 0x00, 0x00, 0x02, 0x00,       /* mov eax, [data_at] */
    0xee,                               /* out dx, al */
    0xf4,
  };
  real_mode(m);
  load(m, code, sizeof code);
  put64(m, gdt_at + 8, 0x00cf9b000000ffff);
  put64(m, gdt_at + 16, 0x00cf93000000ffff);
  m->memory[0x1030] = 23;
  m->memory[0x1031] = 0;
  put32(m, 0x1032, gdt_at);
  m->memory[data_at] = 'w';
  return expect(m, run(m), KVM_EXIT_HLT, "sw");
}

/* An exception in 64-bit mode, handled by the guest; then a software interrupt. */
static const char *exception_guest(struct machine *m) {
  static const uint8_t code[] = {
    0x0f, 0x0b,                         /* ud2 */
    0xcd, 0x40,                         /* int 0x40 */
    SAY('!'),
    0xf4,
  };
  static const uint8_t handlers[] = {
    0x48, 0x83, 0x04, 0x24, 0x02,       /* #UD: add qword [rsp], 2 */
    SAY('u'),
    0x48, 0xcf,                         /* iretq */
    SAY('i'),                           /* int 0x40 */
    0x48, 0xcf,
  };
  protected_mode(m, long_paging);
  load(m, code, sizeof code);
  memcpy(m->memory + 0x3000, handlers, sizeof handlers);
  put64(m, idt_at + 6 * 16, 0x00008e0000083000);
  put64(m, idt_at + 0x40 * 16, 0x00008e0000083000 + 5 + 7 + 2);
  return expect(m, run(m), KVM_EXIT_HLT, "ui!");
}

/* External interrupts, injected while the guest loops with interrupts on. */
static const char *interrupt_guest(struct machine *m) {
  static const uint8_t code[] = {
    0xfb,                               /* sti */
    0x31, 0xc9,                         /* xor ecx, ecx */
    SAY('.'),                           /* again */
    0x83, 0xf9, 0x02,                   /* cmp ecx, 2 */
    0x75, 0xf4,                         /* jne again */
    0xfa, 0xf4,                         /* cli; hlt */
  };
  static const uint8_t handler[] = {0xff, 0xc1, 0x48, 0xcf}; /* inc ecx; iretq */
  protected_mode(m, long_paging);
  load(m, code, sizeof code);
  memcpy(m->memory + 0x3000, handler, sizeof handler);
  put64(m, idt_at + 0x30 * 16, 0x00008e0000083000);
  int injected = 0;
  for (;;) {
    int is_waiting = injected < 2 && m->output_length > (size_t)injected;
    if (is_waiting && m->run->ready_for_interrupt_injection) {
      struct kvm_interrupt interrupt = {.irq = 0x30};
      call(m->vcpu, KVM_INTERRUPT, &interrupt, "KVM_INTERRUPT");
      injected++;
      is_waiting = 0;
    }
    /* Without something to inject, the guest would not get anywhere between two windows. */
    m->run->request_interrupt_window = is_waiting;
    if (ioctl(m->vcpu, KVM_RUN, 0) < 0) die("KVM_RUN");
    if (m->run->exit_reason == KVM_EXIT_IO) {
      m->output_length++;
      if (m->output_length > 100) return "the interrupts do not arrive";
      continue;
    }
    if (m->run->exit_reason != KVM_EXIT_IRQ_WINDOW_OPEN) break;
  }
  if (m->run->exit_reason != KVM_EXIT_HLT) return "no HLT";
  return registers(m).rcx == 2 ? 0 : "wrong number of interrupts";
}

/* A triple fault ends the guest. */
static const char *shutdown_guest(struct machine *m) {
  static const uint8_t code[] = {0x0f, 0x0b};
  protected_mode(m, no_paging);
  struct kvm_sregs sregs;
  call(m->vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
  sregs.idt.limit = 0;
  call(m->vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
  load(m, code, sizeof code);
  return expect(m, run(m), KVM_EXIT_SHUTDOWN, "");
}

/* CPUID, MSRs, time stamps and control registers, as a guest's kernel uses them. */
static const char *registers_guest(struct machine *m) {
  static const uint8_t code[] = {
    0xb8, 0x00, 0x00, 0x00, 0x40,       /* mov eax, 0x40000000 */
    0x0f, 0xa2,                         /* cpuid */
    0x89, 0xdf,                         /* mov edi, ebx */
    0xb9, 0x82, 0x00, 0x00, 0xc0,       /* mov ecx, LSTAR */
    0xb8, 0x78, 0x56, 0x34, 0x12, 0x31, 0xd2, /* mov eax, 0x12345678; xor edx, edx */
    0x0f, 0x30, 0x31, 0xc0,             /* wrmsr; xor eax, eax */
    0x0f, 0x32, 0x89, 0xc6,             /* rdmsr; mov esi, eax */
    0x0f, 0x31, 0x49, 0x89, 0xc0,       /* rdtsc; mov r8, rax */
    0x0f, 0x31, 0x4c, 0x29, 0xc0, 0x49, 0x89, 0xc0, /* rdtsc; sub rax, r8; mov r8, rax */
    0x0f, 0x20, 0xe0, 0x0d, 0x80, 0x00, 0x00, 0x00, /* mov rax, cr4; or eax, PGE */
    0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xe3, /* mov cr4, rax; mov rbx, cr4 */
    0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, /* mov rax, cr3; mov cr3, rax */
    0x0f, 0x01, 0x38,                   /* invlpg [rax] */
    0x0f, 0x09,                         /* wbinvd */
    0xb8, 0x05, 0x04, 0x00, 0x00, 0x0f, 0x23, 0xf8, /* mov eax, 0x405; mov dr7, rax */
    0x0f, 0x21, 0xf9,                   /* mov rcx, dr7 */
    0xf4,
  };
  protected_mode(m, long_paging);
  load(m, code, sizeof code);
  const char *problem = expect(m, run(m), KVM_EXIT_HLT, "");
  if (problem) return problem;
  struct kvm_regs regs = registers(m);
  if (regs.rdi != 0x4b4d564b) return "CPUID does not say KVM";
  if (regs.rsi != 0x12345678) return "an MSR does not keep its value";
  if ((regs.rbx & 0xa0) != 0xa0) return "CR4 is wrong";
  if (regs.rcx != 0x405) return "DR7 is wrong";
  return (int64_t)regs.r8 > 0 ? 0 : "time does not pass";
}

struct tiny_guest {
  const char *name;
  const char *(*test)(struct machine *m);
  int with_irqchip;
};

static const struct tiny_guest tiny_guests[] = {
  {"real mode", real_guest, 0},
  {"protected mode", protected_guest, 0},
  {"32-bit paging", legacy_guest, 0},
  {"PAE paging", pae_guest, 0},
  {"64-bit mode", long_guest, 0},
  {"real to protected mode", switching_guest, 0},
  {"exceptions", exception_guest, 0},
  {"interrupts", interrupt_guest, 0},
  {"registers", registers_guest, 0},
  {"shutdown", shutdown_guest, 0},
};

static int run_tiny_guests(void) {
  int failures = 0;
  for (size_t i = 0; i < sizeof tiny_guests / sizeof *tiny_guests; i++) {
    struct machine *m = create(tiny_memory_bytes, tiny_guests[i].with_irqchip);
    const char *problem = tiny_guests[i].test(m);
    printf("%-24s %s\n", tiny_guests[i].name, problem ? problem : "passed");
    fflush(stdout);
    failures += problem != 0;
    destroy(m);
  }
  printf("tiny guests: %zu, failed: %d\n", sizeof tiny_guests / sizeof *tiny_guests, failures);
  return failures;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

/* mov ecx, count; again: instruction; sub ecx, 1; jnz again; hlt */
static void measure(const char *name, const uint8_t *instruction, size_t bytes, uint32_t count) {
  struct machine *m = create(tiny_memory_bytes, 0);
  uint8_t code[64] = {0x41, 0xb8};
  memcpy(code + 2, &count, 4);
  memcpy(code + 6, instruction, bytes);
  const uint8_t loop[] = {0x41, 0x83, 0xe8, 0x01, 0x75, (uint8_t)-(bytes + 6), 0xf4};
  memcpy(code + 6 + bytes, loop, sizeof loop);
  protected_mode(m, long_paging);
  load(m, code, sizeof code);
  double before = seconds();
  int reason = run(m);
  double elapsed = seconds() - before;
  printf("%-12s %10.0f ns%s\n", name, elapsed * 1e9 / count, reason == KVM_EXIT_HLT ? "" : " (it did not halt)");
  destroy(m);
}

static int measure_exits(uint32_t count) {
  static const uint8_t cpuid[] = {0x31, 0xc0, 0x0f, 0xa2}, none[] = {0x90};
  static const uint8_t port[] = {0xe6, 0x80};
  static const uint8_t mmio[] = {0xb8, 0x00, 0x00, 0x00, 0xd0, 0x89, 0x00};
  static const uint8_t hypercall[] = {0xb8, 0x09, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xd9};
  measure("no exit", none, sizeof none, count);
  measure("CPUID", cpuid, sizeof cpuid, count);
  measure("hypercall", hypercall, sizeof hypercall, count);
  measure("port", port, sizeof port, count);
  measure("MMIO", mmio, sizeof mmio, count);
  return 0;
}

static uint8_t *map_file(const char *path, size_t *bytes) {
  int file = open(path, O_RDONLY);
  struct stat status;
  if (file < 0 || fstat(file, &status) < 0) die(path);
  *bytes = status.st_size;
  uint8_t *contents = mmap(0, *bytes, PROT_READ, MAP_PRIVATE, file, 0);
  if (contents == MAP_FAILED) die(path);
  close(file);
  return contents;
}

/* A 16550A that transmits at once and receives nothing. */
struct uart {
  uint8_t registers[8];
  int is_empty_pending;
  int has_fifo;
};
enum { transmit_irq = 4, interrupt_enable = 1, interrupt_identity = 2, line_control = 3, line_status = 5, divisor_latch = 0x80 };

static void update_interrupt(struct machine *m, struct uart *uart) {
  struct kvm_irq_level level = {.irq = transmit_irq, .level = uart->is_empty_pending && (uart->registers[interrupt_enable] & 2)};
  call(m->vm, KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
}

static uint8_t uart_read(struct machine *m, struct uart *uart, int offset) {
  if (offset == 0) return 0;
  if (offset == line_status) return 0x60;
  if (offset == 6) return 0xb0;
  if (offset != interrupt_identity) return uart->registers[offset];
  int is_raised = uart->is_empty_pending && (uart->registers[interrupt_enable] & 2);
  uart->is_empty_pending = 0;
  update_interrupt(m, uart);
  return (is_raised ? 2 : 1) | (uart->has_fifo ? 0xc0 : 0);
}

static void uart_write(struct machine *m, struct uart *uart, int offset, uint8_t value) {
  int selects_divisor = uart->registers[line_control] & divisor_latch;
  if (offset == interrupt_identity) uart->has_fifo = value & 1;
  if (offset == 0 && !selects_divisor) putchar(value);
  else if (offset != interrupt_identity && !(selects_divisor && offset < 2)) uart->registers[offset] = value;
  if (offset < 2 && !selects_divisor) {
    uart->is_empty_pending = 1;
    update_interrupt(m, uart);
  }
  if (value == '\n') fflush(stdout);
}

/* A real-time clock that stands still: one that always updates would have the kernel wait for seconds. */
static uint8_t rtc_read(uint8_t number) {
  enum { status_a = 10, status_b = 11, status_d = 13, day = 7, month = 8 };
  switch (number) {
    case status_a: return 0x26;
    case status_b: return 2;
    case status_d: return 0x80;
    case day: case month: return 1;
    default: return 0;
  }
}

enum {
  boot_parameters_at = 0x10000,
  command_line_at = 0x20000,
  boot_tables_at = 0x30000,
  kernel_at = 0x1000000,
  boot_stack = 0x8000,
};

/* Puts kernel, initial RAM file system and parameters in memory (Linux's Documentation/arch/x86/boot.rst); the entry point. */
static uint64_t load_linux(uint8_t *memory, size_t memory_size, const char *kernel_path, const char *initrd_path, const char *command_line) {
  size_t kernel_bytes, initrd_bytes;
  uint8_t *kernel = map_file(kernel_path, &kernel_bytes), *initrd = map_file(initrd_path, &initrd_bytes);
  uint8_t *parameters = memory + boot_parameters_at;
  if (kernel_bytes < 0x300 || memcmp(kernel + 0x202, "HdrS", 4) != 0 || !(kernel[0x236] & 1)) {
    fprintf(stderr, "kvm-client: %s is no kernel with a 64-bit entry\n", kernel_path);
    exit(120);
  }
  size_t setup_bytes = (kernel[0x1f1] + 1) * 512;
  memcpy(memory + kernel_at, kernel + setup_bytes, kernel_bytes - setup_bytes);
  memcpy(parameters + 0x1f1, kernel + 0x1f1, 0x202 + kernel[0x201] - 0x1f1);
  parameters[0x210] = 0xff;
  uint32_t initrd_at = (memory_size - initrd_bytes) & ~0xfffu, initrd_size = initrd_bytes, command_at = command_line_at;
  memcpy(memory + initrd_at, initrd, initrd_bytes);
  memcpy(parameters + 0x218, &initrd_at, 4);
  memcpy(parameters + 0x21c, &initrd_size, 4);
  memcpy(parameters + 0x228, &command_at, 4);
  strcpy((char *)memory + command_line_at, command_line);
  struct __attribute__((packed)) { uint64_t address, size; uint32_t type; } map[] = {
    {0, 0x9fc00, 1}, {0x100000, memory_size - 0x100000, 1},
  };
  parameters[0x1e8] = 2;
  memcpy(parameters + 0x2d0, map, sizeof map);
  return kernel_at + 0x200;
}

static void start_linux(struct machine *m, uint64_t entry) {
  struct kvm_sregs sregs;
  call(m->vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
  put64(m, gdt_at + 16, 0x00af9b000000ffff);
  put64(m, gdt_at + 24, 0x00cf93000000ffff);
  flat(&sregs.cs, 11, 0x10, 1);
  struct kvm_segment *data[] = {&sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs};
  for (int i = 0; i < 5; i++) flat(data[i], 3, 0x18, 0);
  sregs.gdt.base = gdt_at;
  sregs.gdt.limit = 31;
  put64(m, boot_tables_at, (boot_tables_at + 0x1000) | 3);
  for (int i = 0; i < 4; i++) put64(m, boot_tables_at + 0x1000 + i * 8, (boot_tables_at + 0x2000 + i * 0x1000) | 3);
  for (uint64_t i = 0; i < 2048; i++) put64(m, boot_tables_at + 0x2000 + i * 8, i << 21 | 0x83);
  sregs.cr3 = boot_tables_at;
  sregs.cr4 |= 0x20;
  sregs.efer |= 0x500;
  sregs.cr0 |= 1u << 31 | 1;
  call(m->vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
  struct kvm_regs regs = {.rip = entry, .rsp = boot_stack, .rsi = boot_parameters_at, .rflags = 2};
  call(m->vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

/* What KVM has counted of the processor's exits (Linux's Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD). */
static void print_exits(struct machine *m, double elapsed) {
  int stats = call(m->vcpu, KVM_GET_STATS_FD, 0, "KVM_GET_STATS_FD");
  struct kvm_stats_header header;
  if (pread(stats, &header, sizeof header, 0) != sizeof header) die("statistics");
  size_t descriptor_bytes = sizeof(struct kvm_stats_desc) + header.name_size;
  printf("\nran %.1f s", elapsed);
  for (uint32_t i = 0; i < header.num_desc; i++) {
    char bytes[256];
    if (descriptor_bytes > sizeof bytes || pread(stats, bytes, descriptor_bytes, header.desc_offset + i * descriptor_bytes) < 0) die("statistics");
    struct kvm_stats_desc *descriptor = (struct kvm_stats_desc *)bytes;
    if (!strstr(descriptor->name, "exits") && strncmp(descriptor->name, "irq_", 4) != 0) continue;
    uint64_t value = 0;
    if (descriptor->size != 1 || pread(stats, &value, sizeof value, header.data_offset + descriptor->offset) != sizeof value) continue;
    if (value) printf(", %s %llu", descriptor->name, (unsigned long long)value);
  }
  printf("\n");
  close(stats);
}

static int boot(const char *kernel, const char *initrd, unsigned megabytes, const char *command_line) {
  struct machine *m = create(megabytes << 20, 1);
  struct kvm_pit_config pit = {0};
  call(m->vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
  start_linux(m, load_linux(m->memory, m->memory_size, kernel, initrd, command_line));
  struct uart uart = {0};
  enum { rtc_index = 0x70, rtc_data = 0x71 };
  uint8_t rtc_register = 0;
  double start = seconds();
  for (;;) {
    if (ioctl(m->vcpu, KVM_RUN, 0) < 0 && errno != EINTR) die("KVM_RUN");
    struct kvm_run *run = m->run;
    if (run->exit_reason == KVM_EXIT_IO) {
      uint8_t *data = (uint8_t *)run + run->io.data_offset;
      int is_uart = run->io.port >= serial_port && run->io.port < serial_port + 8 && run->io.size == 1;
      for (unsigned i = 0; i < run->io.count; i++) {
        if (run->io.direction == KVM_EXIT_IO_OUT && is_uart) uart_write(m, &uart, run->io.port - serial_port, data[i]);
        if (run->io.direction == KVM_EXIT_IO_IN && is_uart) data[i] = uart_read(m, &uart, run->io.port - serial_port);
        if (run->io.direction == KVM_EXIT_IO_OUT && run->io.port == rtc_index) rtc_register = data[i] & 0x7f;
        if (run->io.direction == KVM_EXIT_IO_IN && !is_uart) memset(data + i * run->io.size, 0xff, run->io.size);
        if (run->io.direction == KVM_EXIT_IO_IN && run->io.port == rtc_data) data[i] = rtc_read(rtc_register);
      }
    } else if (run->exit_reason == KVM_EXIT_MMIO) {
      if (!run->mmio.is_write) memset(run->mmio.data, 0xff, 8);
    } else if (run->exit_reason == KVM_EXIT_SHUTDOWN || run->exit_reason == KVM_EXIT_SYSTEM_EVENT) {
      print_exits(m, seconds() - start);
      return 0;
    } else if (run->exit_reason != KVM_EXIT_INTR) {
      fprintf(stderr, "kvm-client: exit reason %u at %llx\n", run->exit_reason, (unsigned long long)registers(m).rip);
      return 1;
    }
  }
}

int main(int argc, char **argv) {
  kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) die("/dev/kvm");
  if (call(kvm, KVM_GET_API_VERSION, 0, "KVM_GET_API_VERSION") != KVM_API_VERSION) die("another version of the interface");
  if (argc == 3 && strcmp(argv[1], "exits") == 0) return measure_exits(strtoul(argv[2], 0, 0));
  if (argc == 6 && strcmp(argv[1], "boot") == 0) return boot(argv[2], argv[3], strtoul(argv[4], 0, 0), argv[5]);
  return run_tiny_guests();
}
