/* Loads the state of a case, jumps to its instruction and saves what it left; 64-bit build. */
        .set STATE_RFLAGS, 24
        .set STATE_FS_BASE, 32
        .set STATE_GS_BASE, 40
        .set STATE_DS, 48
        .set STATE_GPR, 64
        .set STATE_FXSAVE, 192

        .macro forEachRegister do
        \do %rcx, 1
        \do %rdx, 2
        \do %rbx, 3
        \do %rbp, 5
        \do %rsi, 6
        \do %rdi, 7
        \do %r8, 8
        \do %r9, 9
        \do %r10, 10
        \do %r11, 11
        \do %r12, 12
        \do %r13, 13
        \do %r14, 14
        \do %r15, 15
        \do %rax, 0
        .endm
        .macro loadRegister register, index
        movq    live + STATE_GPR + 8 * \index, \register
        .endm
        .macro saveRegister register, index
        movq    \register, live + STATE_GPR + 8 * \index
        .endm

        .text
        .globl _start, runCase, exitCase, resumeMain, signalReturn
_start:
        movq    %rsp, %rdi
        andq    $-16, %rsp
        call    start
signalReturn:
        movl    $15, %eax
        syscall

runCase:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, savedStack
        fxrstor64 live + STATE_FXSAVE
        cmpl    $0, loadSegments
        je      1f
        movw    live + STATE_DS, %ds
        movw    live + STATE_DS + 2, %es
        movw    live + STATE_DS + 4, %fs
        movw    live + STATE_DS + 6, %gs
1:      cmpl    $0, hasFsGsBase
        je      2f
        movq    live + STATE_FS_BASE, %rax
        wrfsbase %rax
        movq    live + STATE_GS_BASE, %rax
        wrgsbase %rax
2:      movq    $live + STATE_RFLAGS, %rsp
        popfq
        forEachRegister loadRegister
        movq    live + STATE_GPR + 32, %rsp
        jmp     *entry

exitCase:
        forEachRegister saveRegister
        movq    %rsp, live + STATE_GPR + 32
        movq    $live + STATE_RFLAGS + 8, %rsp
        pushfq
        pushq   $2
        popfq
        fxsave64 live + STATE_FXSAVE
        movw    %ds, live + STATE_DS
        movw    %es, live + STATE_DS + 2
        movw    %fs, live + STATE_DS + 4
        movw    %gs, live + STATE_DS + 6
        movw    %cs, live + STATE_DS + 8
        movw    %ss, live + STATE_DS + 10
        cmpq    $0, live + STATE_DS
        je      4f
        xorl    %eax, %eax
        movw    %ax, %ds
        movw    %ax, %es
        rdfsbase %rcx
        rdgsbase %rdx
        movw    %ax, %fs
        movw    %ax, %gs
        wrfsbase %rcx
        wrgsbase %rdx
4:      cmpl    $0, hasFsGsBase
        je      3f
        rdfsbase %rax
        movq    %rax, live + STATE_FS_BASE
        rdgsbase %rax
        movq    %rax, live + STATE_GS_BASE
3:      movl    $1, %eax
leave:  movq    savedStack, %rsp
        movl    $0x2b, %ecx
        movw    %cx, %ss
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

resumeMain:
        pushq   $2
        popfq
        xorl    %eax, %eax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        jmp     leave
        .section .note.GNU-stack, "", @progbits
