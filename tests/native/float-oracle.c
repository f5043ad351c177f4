/*
 * Executes single SSE, FMA and x87 instructions on the host processor, for the differential tests of src/softfloat.
 * Reads 64-byte cases on standard input, writes 48-byte outcomes on standard output; all fields little-endian.
 *
 *   case:    u32 operation, u32 control (MXCSR or x87 control word), u8 operands[3][16], u64 unused
 *   outcome: u8 results[2][16], u32 status (MXCSR or x87 status word), u32 faulted, u64 unused
 *
 * An x87 operation finds operand 0 in ST(0) and operand 1 in ST(1), or operand 0 in memory for loads; it leaves
 * ST(0) and ST(1), or the memory image that a store wrote into 16 bytes of 0xCC.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

struct test_case {
  uint32_t operation, control;
  uint8_t operand[3][16];
  uint64_t unused;
};

struct outcome {
  uint8_t result[2][16];
  uint32_t status, faulted;
  uint64_t unused;
};

struct fpu_image {
  uint16_t control, r0, status, r1, tag, r2;
  uint32_t pointers[4];
  uint8_t registers[8][10];
} __attribute__((packed));

static sigjmp_buf resume;
static volatile uint32_t fault_mxcsr;

static void on_fault(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)info;
  fault_mxcsr = ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
  siglongjmp(resume, 1);
}

#define SSE_BINARY(number, instruction)                                                                     \
  case number:                                                                                              \
    __asm__ volatile("movups %2, %%xmm0\n\tmovups %3, %%xmm1\n\tldmxcsr %4\n\t" instruction                 \
                     " %%xmm1, %%xmm0\n\tstmxcsr %1\n\tmovups %%xmm0, %0"                                   \
                     : "=m"(out->result[0]), "=m"(mxcsr)                                                    \
                     : "m"(in->operand[0]), "m"(in->operand[1]), "m"(in->control)                           \
                     : "xmm0", "xmm1", "memory");                                                           \
    break;

#define VEX_BINARY(number, instruction)                                                                     \
  case number:                                                                                              \
    __asm__ volatile("movups %2, %%xmm0\n\tmovups %3, %%xmm1\n\tldmxcsr %4\n\t" instruction                 \
                     " %%xmm1, %%xmm0, %%xmm0\n\tstmxcsr %1\n\tmovups %%xmm0, %0"                           \
                     : "=m"(out->result[0]), "=m"(mxcsr)                                                    \
                     : "m"(in->operand[0]), "m"(in->operand[1]), "m"(in->control)                           \
                     : "xmm0", "xmm1", "memory");                                                           \
    break;

#define SSE_TERNARY(number, instruction)                                                                    \
  case number:                                                                                              \
    __asm__ volatile(                                                                                       \
        "movups %2, %%xmm0\n\tmovups %3, %%xmm1\n\tmovups %4, %%xmm2\n\tldmxcsr %5\n\t" instruction         \
        " %%xmm2, %%xmm1, %%xmm0\n\tstmxcsr %1\n\tmovups %%xmm0, %0"                                        \
        : "=m"(out->result[0]), "=m"(mxcsr)                                                                 \
        : "m"(in->operand[0]), "m"(in->operand[1]), "m"(in->operand[2]), "m"(in->control)                   \
        : "xmm0", "xmm1", "xmm2", "memory");                                                                \
    break;

#define SSE_COMPARE(number, instruction)                                                                    \
  case number: {                                                                                            \
    uint64_t flags;                                                                                         \
    __asm__ volatile("movups %2, %%xmm0\n\tmovups %3, %%xmm1\n\tldmxcsr %4\n\t" instruction                 \
                     " %%xmm1, %%xmm0\n\tpushfq\n\tpop %0\n\tstmxcsr %1"                                    \
                     : "=r"(flags), "=m"(mxcsr)                                                             \
                     : "m"(in->operand[0]), "m"(in->operand[1]), "m"(in->control)                           \
                     : "xmm0", "xmm1", "cc", "memory");                                                     \
    memcpy(out->result[0], &flags, 8);                                                                      \
    break;                                                                                                  \
  }

#define SSE_TO_INTEGER(number, instruction, type)                                                           \
  case number: {                                                                                            \
    type integer;                                                                                           \
    __asm__ volatile("movups %2, %%xmm0\n\tldmxcsr %3\n\t" instruction " %%xmm0, %0\n\tstmxcsr %1"          \
                     : "=r"(integer), "=m"(mxcsr)                                                           \
                     : "m"(in->operand[0]), "m"(in->control)                                                \
                     : "xmm0", "memory");                                                                   \
    memcpy(out->result[0], &integer, sizeof integer);                                                       \
    break;                                                                                                  \
  }

#define SSE_FROM_INTEGER(number, instruction, type)                                                         \
  case number: {                                                                                            \
    type integer;                                                                                           \
    memcpy(&integer, in->operand[0], sizeof integer);                                                       \
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tldmxcsr %3\n\t" instruction                                    \
                     " %2, %%xmm0\n\tstmxcsr %1\n\tmovups %%xmm0, %0"                                       \
                     : "=m"(out->result[0]), "=m"(mxcsr)                                                    \
                     : "r"(integer), "m"(in->control)                                                       \
                     : "xmm0", "memory");                                                                   \
    break;                                                                                                  \
  }

#define CMP4(base, predicate, form)                                                                         \
  VEX_BINARY(base + predicate, "vcmp" form " $" #predicate ",")                                             \
  VEX_BINARY(base + predicate + 1, "vcmp" form " $1+" #predicate ",")                                       \
  VEX_BINARY(base + predicate + 2, "vcmp" form " $2+" #predicate ",")                                       \
  VEX_BINARY(base + predicate + 3, "vcmp" form " $3+" #predicate ",")

#define CMP32(base, form)                                                                                   \
  CMP4(base, 0, form) CMP4(base, 4, form) CMP4(base, 8, form) CMP4(base, 12, form)                          \
  CMP4(base, 16, form) CMP4(base, 20, form) CMP4(base, 24, form) CMP4(base, 28, form)

#define CMP8(base, form)                                                                                    \
  SSE_BINARY(base, "cmp" form " $0,") SSE_BINARY(base + 1, "cmp" form " $1,")                               \
  SSE_BINARY(base + 2, "cmp" form " $2,") SSE_BINARY(base + 3, "cmp" form " $3,")                           \
  SSE_BINARY(base + 4, "cmp" form " $4,") SSE_BINARY(base + 5, "cmp" form " $5,")                           \
  SSE_BINARY(base + 6, "cmp" form " $6,") SSE_BINARY(base + 7, "cmp" form " $7,")

#define ROUND4(base, immediate, form)                                                                       \
  SSE_BINARY(base + immediate, "round" form " $" #immediate ",")                                            \
  SSE_BINARY(base + immediate + 1, "round" form " $1+" #immediate ",")                                      \
  SSE_BINARY(base + immediate + 2, "round" form " $2+" #immediate ",")                                      \
  SSE_BINARY(base + immediate + 3, "round" form " $3+" #immediate ",")

#define ROUND16(base, form)                                                                                 \
  ROUND4(base, 0, form) ROUND4(base, 4, form) ROUND4(base, 8, form) ROUND4(base, 12, form)

#define FMA3(base, name, form)                                                                              \
  SSE_TERNARY(base, name "132" form) SSE_TERNARY(base + 1, name "213" form)                                 \
  SSE_TERNARY(base + 2, name "231" form)

static void run_sse(const struct test_case *in, struct outcome *out) {
  volatile uint32_t mxcsr = 0;
  if (sigsetjmp(resume, 0)) {
    out->status = fault_mxcsr;
    out->faulted = 1;
    return;
  }
  switch (in->operation) {
    SSE_BINARY(0x000, "addss") SSE_BINARY(0x001, "subss") SSE_BINARY(0x002, "mulss") SSE_BINARY(0x003, "divss")
    SSE_BINARY(0x004, "sqrtss") SSE_BINARY(0x005, "minss") SSE_BINARY(0x006, "maxss")
    SSE_COMPARE(0x007, "ucomiss") SSE_COMPARE(0x008, "comiss") SSE_BINARY(0x009, "cvtss2sd")
    SSE_TO_INTEGER(0x00a, "cvtss2si", int32_t) SSE_TO_INTEGER(0x00b, "cvttss2si", int32_t)
    SSE_TO_INTEGER(0x00c, "cvtss2si", int64_t) SSE_TO_INTEGER(0x00d, "cvttss2si", int64_t)
    SSE_FROM_INTEGER(0x00e, "cvtsi2ssl", int32_t) SSE_FROM_INTEGER(0x00f, "cvtsi2ssq", int64_t)
    SSE_BINARY(0x010, "rcpss") SSE_BINARY(0x011, "rsqrtss")
    SSE_BINARY(0x020, "addps") SSE_BINARY(0x022, "mulps") SSE_BINARY(0x023, "divps")
    SSE_BINARY(0x100, "addsd") SSE_BINARY(0x101, "subsd") SSE_BINARY(0x102, "mulsd") SSE_BINARY(0x103, "divsd")
    SSE_BINARY(0x104, "sqrtsd") SSE_BINARY(0x105, "minsd") SSE_BINARY(0x106, "maxsd")
    SSE_COMPARE(0x107, "ucomisd") SSE_COMPARE(0x108, "comisd") SSE_BINARY(0x109, "cvtsd2ss")
    SSE_TO_INTEGER(0x10a, "cvtsd2si", int32_t) SSE_TO_INTEGER(0x10b, "cvttsd2si", int32_t)
    SSE_TO_INTEGER(0x10c, "cvtsd2si", int64_t) SSE_TO_INTEGER(0x10d, "cvttsd2si", int64_t)
    SSE_FROM_INTEGER(0x10e, "cvtsi2sdl", int32_t) SSE_FROM_INTEGER(0x10f, "cvtsi2sdq", int64_t)
    CMP8(0x040, "ss") CMP8(0x140, "sd")
    ROUND16(0x060, "ss") ROUND16(0x160, "sd")
    CMP32(0x080, "ss") CMP32(0x180, "sd")
    FMA3(0x0a0, "vfmadd", "ss") FMA3(0x0a3, "vfmsub", "ss") FMA3(0x0a6, "vfnmadd", "ss") FMA3(0x0a9, "vfnmsub", "ss")
    FMA3(0x1a0, "vfmadd", "sd") FMA3(0x1a3, "vfmsub", "sd") FMA3(0x1a6, "vfnmadd", "sd") FMA3(0x1a9, "vfnmsub", "sd")
  }
  out->status = mxcsr;
}

#define X87(number, instruction)                                                                            \
  case number:                                                                                              \
    __asm__ volatile("frstor %1\n\t" instruction "\n\tfnsave %0" : "=m"(image) : "m"(image) : "memory");     \
    break;
#define X87_LOAD(number, instruction)                                                                       \
  case number:                                                                                              \
    __asm__ volatile("frstor %1\n\t" instruction " %2\n\tfnsave %0"                                         \
                     : "=m"(image)                                                                          \
                     : "m"(image), "m"(in->operand[0])                                                      \
                     : "memory");                                                                           \
    break;
#define X87_STORE(number, instruction)                                                                      \
  case number:                                                                                              \
    memset(out->result[0], 0xcc, 16);                                                                       \
    __asm__ volatile("frstor %2\n\t" instruction " %1\n\tfnsave %0"                                         \
                     : "=m"(image), "=m"(out->result[0])                                                    \
                     : "m"(image)                                                                           \
                     : "memory");                                                                           \
    stored = 1;                                                                                             \
    break;
#define X87_FLAGS(number, instruction)                                                                      \
  case number: {                                                                                            \
    uint64_t flags;                                                                                         \
    __asm__ volatile("frstor %2\n\t" instruction "\n\tpushfq\n\tpop %1\n\tfnsave %0"                        \
                     : "=m"(image), "=r"(flags)                                                             \
                     : "m"(image)                                                                           \
                     : "cc", "memory");                                                                     \
    memcpy(out->result[0], &flags, 8);                                                                      \
    stored = 1;                                                                                             \
    break;                                                                                                  \
  }

static void run_x87(const struct test_case *in, struct outcome *out) {
  struct fpu_image image;
  int stored = 0;
  memset(&image, 0, sizeof image);
  image.control = (uint16_t)in->control;
  /* TOP = 6: two registers in use, room for pushes. */
  image.status = 6 << 11;
  image.tag = 0x0fff;
  memcpy(image.registers[0], in->operand[0], 10);
  memcpy(image.registers[1], in->operand[1], 10);
  switch (in->operation) {
    X87(0x200, "fadd %%st(1), %%st") X87(0x201, "fsub %%st(1), %%st") X87(0x202, "fmul %%st(1), %%st")
    X87(0x203, "fdiv %%st(1), %%st") X87(0x204, "fsqrt") X87(0x205, "fsubr %%st(1), %%st")
    X87(0x206, "fdivr %%st(1), %%st") X87(0x207, "fcom") X87(0x208, "fucom") X87(0x209, "ftst")
    X87(0x20a, "fprem") X87(0x20b, "fprem1") X87(0x20c, "frndint") X87(0x20d, "fscale") X87(0x20e, "fxtract")
    X87(0x20f, "fxam") X87(0x210, "fabs") X87(0x211, "fchs")
    X87(0x212, "fldz") X87(0x213, "fld1") X87(0x214, "fldpi") X87(0x215, "fldl2t") X87(0x216, "fldl2e")
    X87(0x217, "fldlg2") X87(0x218, "fldln2")
    X87(0x219, "f2xm1") X87(0x21a, "fyl2x") X87(0x21b, "fyl2xp1") X87(0x21c, "fptan") X87(0x21d, "fpatan")
    X87(0x21e, "fsin") X87(0x21f, "fcos") X87(0x220, "fsincos")
    X87_FLAGS(0x221, "fcomi %%st(1), %%st") X87_FLAGS(0x222, "fucomi %%st(1), %%st")
    X87_LOAD(0x230, "flds") X87_LOAD(0x231, "fldl") X87_LOAD(0x232, "fildq") X87_LOAD(0x233, "fbld")
    X87_LOAD(0x234, "fldt") X87_LOAD(0x235, "fildl") X87_LOAD(0x236, "filds")
    X87_STORE(0x240, "fsts") X87_STORE(0x241, "fstl") X87_STORE(0x242, "fists") X87_STORE(0x243, "fistl")
    X87_STORE(0x244, "fistpll") X87_STORE(0x245, "fbstp") X87_STORE(0x246, "fisttps") X87_STORE(0x247, "fisttpl")
    X87_STORE(0x248, "fisttpll") X87_STORE(0x249, "fstpt")
  }
  out->status = image.status;
  if (!stored) {
    memcpy(out->result[0], image.registers[0], 10);
    memcpy(out->result[1], image.registers[1], 10);
  }
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGFPE, &action, NULL);

  struct test_case in;
  while (fread(&in, sizeof in, 1, stdin) == 1) {
    struct outcome out;
    memset(&out, 0, sizeof out);
    if (in.operation < 0x200)
      run_sse(&in, &out);
    else
      run_x87(&in, &out);
    uint32_t defaults = 0x1f80;
    __asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(defaults));
    fwrite(&out, sizeof out, 1, stdout);
  }
  return 0;
}
