/* Loads the state of a case, jumps to its instruction and saves what it left; 32-bit build. */
        .set STATE_RFLAGS, 24
        .set STATE_DS, 48
        .set STATE_GPR, 64
        .set STATE_FXSAVE, 192

        .macro forEachRegister do
        \do %ecx, 1
        \do %edx, 2
        \do %ebx, 3
        \do %ebp, 5
        \do %esi, 6
        \do %edi, 7
        \do %eax, 0
        .endm
        .macro loadRegister register, index
        movl    live + STATE_GPR + 8 * \index, \register
        .endm
        .macro saveRegister register, index
        movl    \register, live + STATE_GPR + 8 * \index
        .endm

        .text
        .globl _start, runCase, exitCase, resumeMain, signalReturn
_start:
        movl    %esp, %eax
        andl    $-16, %esp
        subl    $12, %esp
        pushl   %eax
        call    start
signalReturn:
        movl    $173, %eax
        int     $0x80

runCase:
        pushl   %ebx
        pushl   %ebp
        pushl   %esi
        pushl   %edi
        movl    %esp, savedStack
        movl    $0x63, %eax
        movw    %ax, %fs
        movl    $0x6b, %eax
        movw    %ax, %gs
        fxrstor live + STATE_FXSAVE
        movl    $loadFlat, %eax
        cmpl    $0, loadSegments
        je      1f
        movl    $loadWithSegments, %eax
1:      movl    %eax, loadPath
        movl    $live + STATE_RFLAGS, %esp
        popfl
        jmp     *loadPath

        /* Segments of the case: the last reads go through %cs, which stays flat until the jump. */
loadWithSegments:
        movw    live + STATE_DS + 2, %es
        movw    live + STATE_DS + 4, %fs
        movw    live + STATE_DS + 6, %gs
        forEachRegister loadRegister
        lss     %cs:stackPointer, %esp
        movw    %cs:live + STATE_DS, %ds
        ljmp    *%cs:entry
loadFlat:
        forEachRegister loadRegister
        movl    live + STATE_GPR + 32, %esp
        jmp     *entry

exitCase:
        forEachRegister saveRegister
        movl    %esp, live + STATE_GPR + 32
        movl    $live + STATE_RFLAGS + 4, %esp
        pushfl
        pushl   $2
        popfl
        fxsave  live + STATE_FXSAVE
        movl    $1, %eax
leave:  movl    savedStack, %esp
        popl    %edi
        popl    %esi
        popl    %ebp
        popl    %ebx
        ret

resumeMain:
        pushl   $2
        popfl
        movl    $0x2b, %eax
        movw    %ax, %ss
        movw    %ax, %ds
        movw    %ax, %es
        xorl    %eax, %eax
        jmp     leave
        .bss
        .balign 4
loadPath: .long 0
        .section .note.GNU-stack, "", @progbits
