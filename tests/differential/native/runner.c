/*
 * Executes single instructions on the host processor for the differential test: one process, no libc, built once as
 * 64-bit and once as 32-bit code. `tests/differential/layout.ts` describes the same records and memory map; Intel SDM
 * vol. 1 "Format of an FXSAVE Area", vol. 3 "Exception and Interrupt Reference", Linux uapi sigcontext.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long word;

enum {
  CODE_PAGE = 0x10000000,
  NONE_LOW = 0x20000000,
  DATA_A = 0x20001000,
  READ_ONLY = 0x20002000,
  DATA_B = 0x20003000,
  PAGE = 4096,
  WINDOW_BYTES = 1024,
  STATE_BYTES = 704,
  FXSAVE_OFFSET = 192,
  RECORD_BYTES = STATE_BYTES + WINDOW_BYTES,
};

enum { FLAG_EXIT_BY_TRAP = 1, FLAG_LOAD_SEGMENTS = 2 };
enum { OUTCOME_COMPLETED = 0, OUTCOME_FAULT = 1, OUTCOME_TIMEOUT = 2, OUTCOME_REJECTED = 3 };
enum { RESULT_WROTE_OUTSIDE = 1 };

struct caseHeader {
  u8 length, flags;
  u16 codeOffset;
  u32 windowAddress;
  u8 bytes[16];
};

struct state {
  u8 outcome, vector;
  u16 flags;
  u32 errorCode;
  u64 rip, cr2, rflags, fsBase, gsBase;
  u16 ds, es, fs, gs, cs, ss, reserved[2];
  u64 gpr[16];
  u8 fxsave[512];
} __attribute__((aligned(64)));

/* Shared with the assembly part, which knows their offsets. */
struct state live;
struct { word offset; u16 selector; } __attribute__((packed, aligned(16))) entry;
struct { u32 offset; u16 selector; } __attribute__((packed, aligned(16))) stackPointer;
word savedStack;
u32 loadSegments, hasFsGsBase;

extern int runCase(void);
extern void exitCase(void);
extern void resumeMain(void) __attribute__((noreturn));
extern void signalReturn(void);
extern char __executable_start[], etext[];

static volatile u32 caseNumber, running, lastTickCase;
static word entryAddress, entryEnd;
static u8 alternateStack[65536] __attribute__((aligned(64)));

/* ---- system calls ---- */
#ifdef __x86_64__
enum { SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_mmap = 9, SYS_mprotect = 10, SYS_sigaction = 13, SYS_setitimer = 38,
       SYS_exit = 60, SYS_sigaltstack = 131, SYS_modify_ldt = 154, SYS_prctl = 157, SYS_arch_prctl = 158, SYS_sigreturn = 15 };
enum { AUDIT_ARCH = (int)0xc000003e };
static long systemCall(long n, word a, word b, word c, word d, word e, word f) {
  long result;
  register word r10 __asm__("r10") = d;
  register word r8 __asm__("r8") = e;
  register word r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}
#else
enum { SYS_read = 3, SYS_write = 4, SYS_open = 5, SYS_mmap = 192, SYS_mprotect = 125, SYS_sigaction = 174, SYS_setitimer = 104,
       SYS_exit = 1, SYS_sigaltstack = 186, SYS_modify_ldt = 123, SYS_prctl = 172, SYS_set_thread_area = 243, SYS_sigreturn = 173 };
enum { AUDIT_ARCH = 0x40000003 };
static long systemCall(long n, word a, word b, word c, word d, word e, word f) {
  long result;
  word arguments[7] = { a, b, c, d, e, f, (word)n };
  __asm__ volatile("push %%ebp\n push %%ebx\n mov %%eax, %%esi\n mov 0(%%esi), %%ebx\n mov 4(%%esi), %%ecx\n"
                   "mov 8(%%esi), %%edx\n mov 16(%%esi), %%edi\n mov 20(%%esi), %%ebp\n mov 24(%%esi), %%eax\n"
                   "mov 12(%%esi), %%esi\n int $0x80\n pop %%ebx\n pop %%ebp"
                   : "=a"(result) : "a"(arguments) : "ecx", "edx", "esi", "edi", "memory");
  return result;
}
#endif
#define call1(n, a) systemCall(n, (word)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) systemCall(n, (word)(a), (word)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) systemCall(n, (word)(a), (word)(b), (word)(c), 0, 0, 0)
#define call4(n, a, b, c, d) systemCall(n, (word)(a), (word)(b), (word)(c), (word)(d), 0, 0)
#define call5(n, a, b, c, d, e) systemCall(n, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), 0)

static void __attribute__((noreturn)) quit(int status) {
  for (;;) call1(SYS_exit, status);
}
static void require(int condition, int status) {
  if (!condition) quit(status);
}
static void copy(void *to, const void *from, word bytes) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}
static void fill(void *to, u8 value, word bytes) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
}
void *memcpy(void *to, const void *from, word bytes) { copy(to, from, bytes); return to; }
void *memset(void *to, int value, word bytes) { fill(to, (u8)value, bytes); return to; }

static void *map(word address, word bytes, int protection, int flags, int descriptor) {
  return (void *)systemCall(SYS_mmap, address, bytes, protection, flags, descriptor, 0);
}

/* ---- signals ---- */
static int usesCodePageBase(u16 selector);
static int isOurCode(word address) {
  return address >= (word)__executable_start && address < (word)etext;
}

#ifdef __x86_64__
struct context {
  u64 flags, link, stack[3];
  u64 r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, eflags;
  u16 cs, gs, fs, ss;
  u64 err, trapno, oldmask, cr2;
  u8 *fpstate;
};
static void saveRegisters(struct context *c) {
  u64 *g = live.gpr;
  g[0] = c->ax; g[1] = c->cx; g[2] = c->dx; g[3] = c->bx; g[4] = c->sp; g[5] = c->bp; g[6] = c->si; g[7] = c->di;
  g[8] = c->r8; g[9] = c->r9; g[10] = c->r10; g[11] = c->r11; g[12] = c->r12; g[13] = c->r13; g[14] = c->r14; g[15] = c->r15;
  live.cs = c->cs; live.ss = c->ss;
  /* The kernel leaves the others alone and writes zeros for FS and GS. */
  __asm__ volatile("mov %%fs, %0" : "=r"(live.fs));
  __asm__ volatile("mov %%gs, %0" : "=r"(live.gs));
  __asm__ volatile("mov %%ds, %0" : "=r"(live.ds));
  __asm__ volatile("mov %%es, %0" : "=r"(live.es));
  if (hasFsGsBase) {
    __asm__ volatile("rdfsbase %0" : "=r"(live.fsBase));
    __asm__ volatile("rdgsbase %0" : "=r"(live.gsBase));
  }
  copy(live.fxsave, c->fpstate, 512);
}
#else
struct context {
  u32 flags, link, stack[3];
  u16 gs, gsHigh, fs, fsHigh, es, esHigh, ds, dsHigh;
  u32 di, si, bp, sp, bx, dx, cx, ax, trapno, err, ip;
  u16 cs, csHigh;
  u32 eflags, spAtSignal;
  u16 ss, ssHigh;
  u8 *fpstate;
  u32 oldmask, cr2;
};
static void saveRegisters(struct context *c) {
  u64 *g = live.gpr;
  g[0] = c->ax; g[1] = c->cx; g[2] = c->dx; g[3] = c->bx; g[4] = c->sp; g[5] = c->bp; g[6] = c->si; g[7] = c->di;
  live.cs = c->cs; live.ss = c->ss; live.ds = c->ds; live.es = c->es; live.fs = c->fs; live.gs = c->gs;
  /* The FSAVE image of 112 bytes comes first, the FXSAVE image after it. */
  copy(live.fxsave, c->fpstate + 112, 512);
}
#endif

/*
 * An int3 beyond the instruction, or a fetch fault at a branch's target, is the end of a completed instruction;
 * everything else is the instruction's own exception.
 */
static void onFault(int signal, void *information, struct context *c) {
  (void)signal;
  (void)information;
  if (!running) quit(70);
  word ip = c->ip;
  u32 vector = (u32)c->trapno;
  running = 0;
  live.vector = (u8)vector;
  live.errorCode = (u32)c->err;
  live.rip = ip;
  live.cr2 = vector == 14 ? c->cr2 : 0;
  live.rflags = c->eflags;
  if (isOurCode(ip) && !(vector == 1 && ip == (word)exitCase)) {
    live.outcome = OUTCOME_REJECTED;
    resumeMain();
  }
  live.outcome = OUTCOME_FAULT;
  saveRegisters(c);
  int isEnd = 0;
  if (vector == 1 && ip == (word)exitCase) { isEnd = 1; live.rip = entryEnd; }
  if (vector == 3 && ip != entryEnd) { isEnd = 1; live.rip = ip - 1; }
  if (vector == 14 && (c->err & 16) && ip != entryAddress) isEnd = 1;
  /* Beyond the limit of a code segment as long as the page. */
  if (vector == 13 && c->err == 0 && ip != entryAddress && ip >= PAGE && usesCodePageBase(c->cs)) isEnd = 1;
  if (isEnd) {
    live.outcome = OUTCOME_COMPLETED;
    live.vector = 0;
    live.errorCode = 0;
    live.cr2 = 0;
  }
  resumeMain();
}

static void onTick(int signal, void *information, struct context *c) {
  (void)signal;
  (void)information;
  if (!running || isOurCode(c->ip)) return;
  if (lastTickCase != caseNumber) {
    lastTickCase = caseNumber;
    return;
  }
  running = 0;
  live.outcome = OUTCOME_TIMEOUT;
  live.rip = c->ip;
  live.rflags = c->eflags;
  saveRegisters(c);
  resumeMain();
}

static void setHandler(int signal, void (*handler)(int, void *, struct context *), word extraFlags) {
  /* SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_NODEFER: the handler never returns, so the signal must stay unblocked. */
  struct { void *handler; word flags; void *restorer; u64 mask; } action =
      { (void *)handler, 0x4 | 0x04000000 | 0x08000000 | 0x40000000 | extraFlags, (void *)signalReturn, 0 };
  require(call4(SYS_sigaction, signal, &action, 0, 8) == 0, 71);
}

/* ---- segments that tests may name; layout.ts has the same table ---- */
struct userDescriptor { u32 entryNumber, base, limit, bits; };
enum { SEG_32 = 1, DATA = 0 << 1, EXPAND_DOWN = 1 << 1, CODE = 2 << 1, CONFORMING = 3 << 1, RESTRICTED = 8, PAGES = 16, ABSENT = 32 };

static void setSegments(void) {
  static const struct userDescriptor table[] = {
    { 0, DATA_A, 0x3ff, SEG_32 | DATA },
    { 1, DATA_A, 0xfff, SEG_32 | DATA | RESTRICTED },
    { 2, DATA_A, 0x1ff, SEG_32 | EXPAND_DOWN },
    { 3, 0, 0xfffff, SEG_32 | CODE | PAGES },
    { 4, CODE_PAGE, 0xfff, CODE },
    { 5, DATA_A, 0xfff, SEG_32 | DATA | ABSENT },
    { 6, DATA_A, 0xffff, DATA },
    { 7, DATA_A, 0x1ff, EXPAND_DOWN },
    { 8, CODE_PAGE, 0xfff, SEG_32 | CONFORMING | ABSENT },
    { 9, CODE_PAGE, 0xfff, SEG_32 | CODE | RESTRICTED },
  };
  for (u32 i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
    require(call3(SYS_modify_ldt, 0x11, &table[i], sizeof(table[0])) == 0, 72);
  }
#ifndef __x86_64__
  struct userDescriptor fs = { 12, DATA_A, 0xfffff, SEG_32 | DATA | PAGES };
  struct userDescriptor gs = { 13, DATA_B, 0xfffff, SEG_32 | DATA | PAGES };
  require(call1(SYS_set_thread_area, &fs) == 0, 73);
  require(call1(SYS_set_thread_area, &gs) == 0, 73);
#endif
}

/* Random registers must never reach the kernel through a system call: only what this program itself needs passes. */
static void restrictSystemCalls(void) {
  struct filter { u16 code; u8 ifTrue, ifFalse; u32 value; };
#ifdef __x86_64__
  u32 last = SYS_arch_prctl;
#else
  u32 last = SYS_set_thread_area;
#endif
  struct filter program[] = {
    { 0x20, 0, 0, 4 },          { 0x15, 0, 6, (u32)AUDIT_ARCH },   { 0x20, 0, 0, 0 },
    { 0x15, 5, 0, SYS_read },   { 0x15, 4, 0, SYS_write },         { 0x15, 3, 0, SYS_exit },
    { 0x15, 2, 0, SYS_sigreturn }, { 0x15, 1, 0, last },           { 0x06, 0, 0, 0x00050001 },
    { 0x06, 0, 0, 0x7fff0000 },
  };
  struct { u16 length; struct filter *filters; } descriptor = { sizeof(program) / sizeof(program[0]), program };
  require(call5(SYS_prctl, 38, 1, 0, 0, 0) == 0, 74);
  require(call3(SYS_prctl, 22, 2, &descriptor) == 0, 74);
}

/* ---- cases ---- */
static void setDefaultSegments(void) {
  __asm__ volatile("mov %%ds, %0" : "=r"(live.ds));
  __asm__ volatile("mov %%es, %0" : "=r"(live.es));
  __asm__ volatile("mov %%cs, %0" : "=r"(live.cs));
  __asm__ volatile("mov %%ss, %0" : "=r"(live.ss));
#ifdef __x86_64__
  live.fs = 0;
  live.gs = 0;
#else
  live.fs = 0x63;
  live.gs = 0x6b;
#endif
}

/* Code segments of the table above whose base is the code page, so that the instruction pointer is an offset in it. */
static int usesCodePageBase(u16 selector) {
  u32 index = selector >> 3;
  return (selector & 4) && (index == 4 || index == 9);
}

static void runOne(const u8 *record, u8 *result) {
  const struct caseHeader *header = (const struct caseHeader *)record;
  static word dirtyWindow;
  u8 *window = (u8 *)(word)header->windowAddress;
  u8 *page = (u8 *)((word)window & ~(word)(PAGE - 1));
  u8 *code = (u8 *)CODE_PAGE + header->codeOffset;
  copy(&live, record, STATE_BYTES);
  int isWindowValid = ((word)page == DATA_A || (word)page == DATA_B) && window + WINDOW_BYTES <= page + PAGE && !((word)window & 7);
  if (!isWindowValid || header->length > 15 || header->codeOffset >= PAGE) {
    live.outcome = OUTCOME_REJECTED;
    copy(result, &live, STATE_BYTES);
    return;
  }
  if (dirtyWindow != (word)window) {
    if (dirtyWindow) fill((void *)dirtyWindow, 0, WINDOW_BYTES);
    dirtyWindow = (word)window;
  }
  copy(window, record + STATE_BYTES, WINDOW_BYTES);

  loadSegments = header->flags & FLAG_LOAD_SEGMENTS;
  if (!loadSegments) setDefaultSegments();
  int isSmall = loadSegments && usesCodePageBase(live.cs);
  /* The way back by a jump needs flat segments. */
  int exitsByTrap = (header->flags & FLAG_EXIT_BY_TRAP) || (loadSegments && sizeof(word) == 4);

  word room = PAGE - header->codeOffset;
  word length = header->length < room ? header->length : room;
  for (word i = 0; i < length; i++) code[i] = header->bytes[i];
  if (!exitsByTrap && (word)header->length + 5 <= room) {
    u8 *jump = code + length;
    u32 distance = (u32)((word)exitCase - (word)(jump + 5));
    jump[0] = 0xe9;
    for (int i = 0; i < 4; i++) jump[1 + i] = (u8)(distance >> (8 * i));
    length += 5;
  }

  entryAddress = isSmall ? (word)header->codeOffset : (word)code;
  entryEnd = entryAddress + header->length;
  entry.offset = entryAddress;
  entry.selector = live.cs;
  stackPointer.offset = (u32)live.gpr[4];
  stackPointer.selector = live.ss;
  live.rflags &= ~(u64)0x100;

  lastTickCase = caseNumber - 1;
  running = 1;
  int completed = runCase();
  running = 0;
  caseNumber++;

  if (completed) {
    live.outcome = OUTCOME_COMPLETED;
    live.vector = 0;
    live.errorCode = 0;
    live.rip = entryEnd;
    live.cr2 = 0;
  }
  live.flags = 0;
  for (word i = 0; i < length; i++) code[i] = 0xcc;
  u64 outside = 0;
  for (const u64 *p = (const u64 *)CODE_PAGE; p < (const u64 *)(CODE_PAGE + PAGE); p++) outside |= *p ^ 0xccccccccccccccccull;
  if (outside) fill((void *)CODE_PAGE, 0xcc, PAGE);
  for (const u64 *p = (const u64 *)page; p < (const u64 *)window; p++) outside |= *p;
  for (const u64 *p = (const u64 *)(window + WINDOW_BYTES); p < (const u64 *)(page + PAGE); p++) outside |= *p;
  if (outside) {
    live.flags = RESULT_WROTE_OUTSIDE;
    fill(page, 0, window - page);
    fill(window + WINDOW_BYTES, 0, page + PAGE - (window + WINDOW_BYTES));
  }
  copy(result, &live, STATE_BYTES);
  copy(result + STATE_BYTES, window, WINDOW_BYTES);
}

static void cpuid(u32 leaf, u32 subleaf, u32 *out) {
  __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(subleaf));
}

struct greeting {
  u32 magic, recordBytes, hasFsGsBase;
  u16 cs, ss;
  u32 leaf0[4], leaf1[4], leaf7[4], leafD1[4], extended1[4];
};

static int readAll(u8 *to, word bytes) {
  while (bytes) {
    long n = call3(SYS_read, 0, to, bytes);
    if (n == -4) continue;
    if (n <= 0) return 0;
    to += n;
    bytes -= (word)n;
  }
  return 1;
}

static void greet(void) {
  struct greeting g = { 0x4d52544e, RECORD_BYTES, hasFsGsBase, 0, 0, { 0 }, { 0 }, { 0 }, { 0 }, { 0 } };
  __asm__ volatile("mov %%cs, %0" : "=r"(g.cs));
  __asm__ volatile("mov %%ss, %0" : "=r"(g.ss));
  cpuid(0, 0, g.leaf0);
  cpuid(1, 0, g.leaf1);
  if (g.leaf0[0] >= 7) cpuid(7, 0, g.leaf7);
  if (g.leaf0[0] >= 13) cpuid(13, 1, g.leafD1);
  cpuid(0x80000001u, 0, g.extended1);
  require(call3(SYS_write, 1, &g, sizeof(g)) == sizeof(g), 75);
}

/* Arguments: the file of cases, the file of results, how many records each of them holds. */
void start(word *stack) {
  word count = stack[0];
  char **arguments = (char **)(stack + 1);
  require(count == 4, 64);
  word *vector = stack + 1 + count + 1;
  while (*vector) vector++;
  for (vector++; *vector; vector += 2) {
    if (*vector == 26) hasFsGsBase = (vector[1] & 2) != 0;
  }
#ifndef __x86_64__
  hasFsGsBase = 0;
#endif
  word records = 0;
  for (const char *p = arguments[3]; *p; p++) records = records * 10 + (word)(*p - '0');

  int casesFile = (int)call2(SYS_open, arguments[1], 0);
  int resultsFile = (int)call2(SYS_open, arguments[2], 2);
  require(casesFile >= 0 && resultsFile >= 0, 65);
  u8 *cases = map(0, records * RECORD_BYTES, 1, 1, casesFile);
  u8 *results = map(0, records * RECORD_BYTES, 3, 1, resultsFile);
  require((word)cases < (word)-4096 && (word)results < (word)-4096, 66);

  require(map(CODE_PAGE, PAGE, 7, 0x32, -1) == (void *)CODE_PAGE, 67);
  fill((void *)CODE_PAGE, 0xcc, PAGE);
  require(map(NONE_LOW, 5 * PAGE, 0, 0x32, -1) == (void *)NONE_LOW, 67);
  require(call3(SYS_mprotect, DATA_A, 3 * PAGE, 3) == 0, 67);
  for (u32 i = 0; i < PAGE; i++) ((u8 *)READ_ONLY)[i] = (u8)(i * 37 + 11);
  require(call3(SYS_mprotect, READ_ONLY, PAGE, 1) == 0, 67);

  struct { void *pointer; u32 flags; word bytes; } stackDescription = { alternateStack, 0, sizeof(alternateStack) };
  require(call2(SYS_sigaltstack, &stackDescription, 0) == 0, 68);
  static const u8 faultSignals[] = { 4, 5, 7, 8, 11 };
  for (u32 i = 0; i < sizeof(faultSignals); i++) setHandler(faultSignals[i], onFault, 0);
  setHandler(14, onTick, 0x10000000);
  setSegments();
  greet();
  word period[4] = { 0, 20000, 0, 20000 };
  require(call3(SYS_setitimer, 0, period, 0) == 0, 69);
  restrictSystemCalls();

  u32 batch;
  while (readAll((u8 *)&batch, 4)) {
    if (batch > records) quit(76);
    for (word i = 0; i < batch; i++) runOne(cases + i * RECORD_BYTES, results + i * RECORD_BYTES);
    require(call3(SYS_write, 1, &batch, 4) == 4, 75);
  }
  quit(0);
}
