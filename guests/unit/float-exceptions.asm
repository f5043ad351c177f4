; When x87, MMX and SSE instructions are refused (#NM, #UD), and how unmasked exceptions arrive (#MF, #XM): SDM
; volume 3, "Control Registers" and "Interrupt 16—x87 FPU Floating-Point Error (#MF)", "Interrupt 19—SIMD …".
%include "guest.inc"

DATA        equ SCRATCH

%macro set_cr0 2                ; bits to clear, bits to set; changes EAX
    mov xAX, cr0
    and xAX, ~(%1)
    or xAX, %2
    mov cr0, xAX
%endmacro
%macro set_cr4 2
    mov xAX, cr4
    and xAX, ~(%1)
    or xAX, %2
    mov cr4, xAX
%endmacro
%macro control 1
    mov word [DATA], %1
    fldcw [DATA]
%endmacro
%macro check_status 1.nolist    ; the exception flags
    fnstsw ax
    and eax, 0xbf
    check_eq eax, %1
%endmacro

main:
    call initialize_pic
    mov dword [DATA + 0x10], 0x3f800000 ; 1.0
    mov dword [DATA + 0x14], 0
    mov dword [DATA + 0x18], 0x7f800001 ; a signaling NaN
    set_cr0 CR0_EM | CR0_TS, CR0_MP | CR0_NE
    fninit

    group "#NM and #UD by CR0"
    set_cr0 0, CR0_TS
    expect V_NM, 0, fld1
    expect V_NM, 0, fnstsw ax
    expect V_NM, 0, fninit
    expect V_NM, 0, fwait
    expect V_NM, 0, paddb mm0, mm1
    expect V_NM, 0, emms
    set_cr0 CR0_MP, 0
    expect V_NM, 0, fld1
    expect_nothing fwait                ; WAIT looks at MP, too
    set_cr0 CR0_TS, CR0_MP
    expect_nothing fwait
    set_cr0 0, CR0_EM
    expect V_NM, 0, fld1
    expect V_NM, 0, fninit
    expect_nothing fwait
    expect V_UD, 0, paddb mm0, mm1
    expect V_UD, 0, emms
    set_cr0 0, CR0_TS
    expect V_UD, 0, paddb mm0, mm1      ; #UD before #NM
    clts
    set_cr4 0, CR4_OSFXSR
    expect V_UD, 0, addps xmm0, xmm1
    expect V_UD, 0, ldmxcsr [DATA]
    expect V_UD, 0, fxsave [DATA + 0x200]
    set_cr0 CR0_EM, CR0_TS
    expect V_NM, 0, addps xmm0, xmm1
    expect V_NM, 0, ldmxcsr [DATA]
    expect V_NM, 0, stmxcsr [DATA]
    expect V_NM, 0, fxsave [DATA + 0x200]
    expect V_NM, 0, movd xmm0, eax
    expect_nothing prefetcht0 [DATA]
    expect_nothing sfence
    expect_nothing movnti [DATA + 0x100], eax
    expect_nothing crc32 eax, bl
    expect_nothing popcnt eax, ebx
    clts
    set_cr4 CR4_OSFXSR, 0
    expect V_UD, 0, addps xmm0, xmm1
    expect V_UD, 0, stmxcsr [DATA]
    expect_nothing paddb mm0, mm1
    expect_nothing fxsave [DATA + 0x200]
    set_cr0 0, CR0_TS
    expect V_UD, 0, addps xmm0, xmm1
    clts
    expect V_UD, 0, xgetbv              ; CR4.OSXSAVE
    expect V_UD, 0, xsave [DATA + 0x200]

    group "#MF: at the next waiting instruction"
    fninit
    control 0x37b                       ; division by zero unmasked
    fld1
    fldz
    expect_nothing fdivp                ; the instruction itself does not fault
    check_status 0x84
    expect V_MF, 0, fld1
    expect V_MF, 0, fwait
    expect V_MF, 0, fstcw [DATA]        ; FWAIT; FNSTCW: points at the FWAIT
    expect V_MF, 0, emms
    expect V_MF, 0, paddb mm0, mm1
    expect_nothing fnstcw [DATA]
    expect_nothing fnstsw ax
    expect_nothing fnclex
    expect_nothing fwait
    fninit
    control 0x37e                       ; invalid operation unmasked
    expect_nothing fld dword [DATA + 0x18]
    check_status 0x81
    expect V_MF, 0, fld1
    fninit
    control 0x37f & ~0x20               ; precision
    fld1
    mov dword [DATA + 0x20], 3
    fidiv dword [DATA + 0x20]
    check_status 0xa0
    expect V_MF, 0, fstp dword [DATA + 0x20]
    mov eax, [DATA + 0x20]
    check_eq eax, 3
    fnclex
    control 0x37f
    fninit
    ; unmasking what is pending already
    fld1
    fldz
    fdivp
    check_status 4
    mov word [DATA], 0x37b
    expect_nothing fldcw [DATA]
    expect V_MF, 0, fwait
    fninit
    ; restored state with an unmasked exception in it
    control 0x37b
    fld1
    fldz
    fdivp
    fnsave [DATA + 0x300]
    expect_nothing fwait                ; FNSAVE initializes
    frstor [DATA + 0x300]
    expect V_MF, 0, fwait
    fninit

    group "#XM: in the instruction itself"
    set_cr4 0, CR4_OSFXSR
    mov dword [DATA], 0x1f80 & ~0x200   ; division by zero unmasked
    ldmxcsr [DATA]
    movss xmm1, [DATA + 0x10]
    xorps xmm2, xmm2
    movaps xmm3, xmm1
    expect V_UD, 0, divss xmm1, xmm2    ; CR4.OSXMMEXCPT is clear
    set_cr4 0, CR4_OSXMMEXCPT
    expect V_XM, 0, divss xmm1, xmm2
    movd eax, xmm1
    check_eq eax, 0x3f800000            ; the destination is as it was
    stmxcsr [DATA]
    mov eax, [DATA]
    and eax, 0x3f
    check_eq eax, 4
    mov dword [DATA], 0x1f80
    ldmxcsr [DATA]
    expect_nothing divss xmm1, xmm2
    movd eax, xmm1
    check_eq eax, 0x7f800000
    mov dword [DATA], 0x1f80 & ~0x80 | 1
    expect_nothing ldmxcsr [DATA]       ; a flag that is set does not fault by itself
    expect_nothing addss xmm3, xmm3
    expect V_XM, 0, addss xmm3, [DATA + 0x18]
    expect V_XM, 0, cvtss2si eax, [DATA + 0x18]
    expect V_XM, 0, comiss xmm3, [DATA + 0x18]
    mov dword [DATA], 0x1f80 & ~0x1000
    ldmxcsr [DATA]
    mov dword [DATA + 0x20], 0x40400000
    movss xmm4, [DATA + 0x20]
    expect V_XM, 0, divss xmm3, xmm4    ; inexact
    ; packed: one element is enough, none is written; flags of masked and unmasked ones alike
    mov dword [DATA + 0x40], 0x3f800000
    mov dword [DATA + 0x44], 0x3f800000
    mov dword [DATA + 0x48], 0
    mov dword [DATA + 0x4c], 0x3f800000
    movups xmm5, [DATA + 0x40]
    movaps xmm6, xmm5
    mov dword [DATA], 0x1f80 & ~0x200
    ldmxcsr [DATA]
    expect_nothing divps xmm6, xmm5     ; 0/0 is an invalid operation
    movaps xmm6, xmm5
    mov dword [DATA + 0x48], 0x3f800000
    movups xmm6, [DATA + 0x40]
    expect V_XM, 0, divps xmm6, xmm5
    movups [DATA + 0x60], xmm6
    check_eq [DATA + 0x60], 0x3f800000
    mov dword [DATA], 0xffff0000
    expect V_GP, 0, ldmxcsr [DATA]      ; reserved bits
    mov dword [DATA], 0x1f80
    ldmxcsr [DATA]
    fxsave [DATA + 0x200]
    mov dword [DATA + 0x200 + 24], 0x00010000
    expect V_GP, 0, fxrstor [DATA + 0x200]
    ; x87 exceptions do not disturb SSE, nor the other way round
    fninit
    control 0x37b
    fld1
    fldz
    fdivp
    expect_nothing addps xmm0, xmm1
    expect V_MF, 0, cvtpi2ps xmm0, mm1  ; but this one uses MMX state
    fninit

    group "64-bit mode"
    go_long
    set_cr0 0, CR0_TS
    expect V_NM, 0, addps xmm0, xmm1
    expect V_NM, 0, fld1
    user_expect V_NM, 0, movd xmm0, eax
    clts
    mov dword [DATA], 0x1f80 & ~0x200
    ldmxcsr [DATA]
    movss xmm1, [DATA + 0x10]
    xorps xmm2, xmm2
    user_expect V_XM, 0, divss xmm1, xmm2
    control 0x37b
    fld1
    fldz
    fdivp
    user_expect V_MF, 0, fwait
    fnclex
    finish
