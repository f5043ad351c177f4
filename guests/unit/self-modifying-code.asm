; Code that changes while it runs: SDM volume 3, "Self-Modifying Code" and "Handling Self- and Cross-Modifying Code".
; Where another linear address did the writing, a branch and a serializing instruction come in between.
%include "guest.inc"

CODE_AREA   equ HIGH_SCRATCH            ; code that the tests put together
ALIAS       equ 0x800000                ; the same memory at another linear address
NEAR_END    equ CODE_AREA + 0x1000

%macro change_code 2            ; bytes of a page-table entry, name
    group %2
    ; the next instruction, in one block with the store
    mov byte [%%patched + 1], 0x55
%%patched:
    mov al, 0x11
    movzx eax, al
    check_eq xAX, 0x55
    mov byte [%%patched + 1], 0x11

    ; the same in a loop, with another value each time
    mov ecx, 300
    xor ebx, ebx
    xor edx, edx
%%loop:
    mov [%%immediate + 1], ecx
    add edx, ecx
%%immediate:
    mov eax, 0
    add ebx, eax
    dec ecx
    jnz %%loop
    check_eq xBX, 300 * 301 / 2
    check_eq xDX, 300 * 301 / 2

    ; an instruction further down, and one that has run already
    mov ecx, 4
    xor ebx, ebx
%%again:
    inc byte [%%below + 1]
    nop
    nop
    jmp short %%over
%%over:
    nop
%%below:
    mov al, 0x20
    movzx eax, al
    add ebx, eax
    inc byte [%%below + 1]
    dec ecx
    jnz %%again
    check_eq xBX, 0x21 + 0x23 + 0x25 + 0x27
    mov byte [%%below + 1], 0x20

    ; the opcode, and the length of the instruction
    mov xDI, CODE_AREA
    mov dword [xDI], 0x90909040         ; INC EAX (a REX prefix in 64-bit mode) …
    mov byte [xDI], 0x90
    mov byte [xDI + 4], 0xc3
    call xDI
    mov word [xDI], 0x0bb0              ; MOV AL, 0x0B
    xor eax, eax
    call xDI
    check_eq xAX, 0x0b
    mov dword [xDI], 0x0cb00db0         ; two of them
    call xDI
    movzx eax, al
    check_eq xAX, 0x0c
    mov byte [xDI + 2], 0x3c            ; the second becomes CMP AL, 0x0C
    call xDI
    movzx eax, al
    check_eq xAX, 0x0d

    ; by other ways of writing
    mov byte [xDI], 0xb8                ; MOV EAX, imm32; RET
    mov byte [xDI + 5], 0xc3
    lea xSI, [xDI + 1]
    mov dword [xSI], 1
    call xDI
    check_eq xAX, 1
    inc dword [xSI]
    call xDI
    check_eq xAX, 2
    mov edx, 3
    xchg edx, [xSI]
    call xDI
    check_eq xAX, 3
    lock add dword [xSI], 1
    call xDI
    check_eq xAX, 4
    mov dword [SCRATCH], 5
    push xDI
    push xSI
    xchg xSI, xDI
    mov xSI, SCRATCH
    mov ecx, 1
    rep movsd
    pop xSI
    pop xDI
    call xDI
    check_eq xAX, 5
    mov eax, 5
    mov edx, 6
    cmpxchg [xSI], edx
    call xDI
    check_eq xAX, 6
    mov xDX, xSP
    lea xSP, [xSI + WORD_BYTES]
    push xWORD [SCRATCH]                ; a push into code; what it leaves beyond is data
    mov xSP, xDX
    mov byte [xDI + 5], 0xc3
    call xDI
    movzx eax, al
    check_eq xAX, 5
    mov byte [xSI], 0x77                ; one byte of an immediate
    call xDI
    movzx eax, al
    check_eq xAX, 0x77
    fild dword [SCRATCH]
    fistp dword [xSI]
    call xDI
    check_eq xAX, 5
    movd xmm0, [SCRATCH]
    paddd xmm0, xmm0
    movd [xSI], xmm0
    call xDI
    check_eq xAX, 10
    and dword [xSI - 3], 0xffffffff     ; reaches the opcode's page and leaves it as it is
    call xDI
    check_eq xAX, 10

    ; an instruction across two pages: each part by itself
    mov xDI, NEAR_END - 3
    mov byte [xDI], 0xb8
    mov dword [xDI + 1], 0x11223344
    mov byte [xDI + 5], 0xc3
    call xDI
    check_eq xAX, 0x11223344
    mov byte [NEAR_END - 1], 0x55       ; the second byte of the immediate, the last of the page
    call xDI
    check_eq xAX, 0x11225544
    mov byte [NEAR_END], 0x66
    call xDI
    check_eq xAX, 0x11665544
    mov word [NEAR_END - 1], 0x8877     ; both pages by one store
    call xDI
    check_eq xAX, 0x11887744
    mov byte [NEAR_END + 2], 0x40       ; after the instruction
    mov byte [NEAR_END + 2], 0xc3
    call xDI
    check_eq xAX, 0x11887744

    ; data in the page of the code, between executions of it
    mov xDI, CODE_AREA
    mov byte [xDI], 0xff                ; INC dword [CODE_AREA + 0x800]; RET
    mov byte [xDI + 1], 0x05
  %if B == 64
    mov dword [xDI + 2], 0x800 - 6
  %else
    mov dword [xDI + 2], CODE_AREA + 0x800
  %endif
    mov byte [xDI + 6], 0xc3
    mov dword [xDI + 0x800], 0
    mov ecx, 200
%%data:
    call xDI
    mov eax, ecx
    mov [xDI + 0x900], eax
    dec ecx
    jnz %%data
    check_eq [xDI + 0x800], 200

    ; jumps into the middle of an instruction
    mov dword [xDI], 0x9002ebb0         ; from the second byte on JMP +2, and there MOV AL, 0x0D
    mov dword [xDI + 4], 0xc30db090
    lea xSI, [xDI + 1]
    call xSI
    movzx eax, al
    check_eq xAX, 0x0d

    ; a routine that changes what it returns to
    call %%changes_caller
%%returned:
    mov al, 1
    jmp short %%caller_end
%%changes_caller:
    inc byte [%%returned + 1]
    ret
%%caller_end:
    movzx eax, al
    check_eq xAX, 2
    mov byte [%%returned + 1], 1

    ; cross-modifying by another linear address of the same memory
    mov xDI, CODE_AREA
    mov byte [xDI], 0xb8
    mov dword [xDI + 1], 0x01010101
    mov byte [xDI + 5], 0xc3
    call xDI
    check_eq xAX, 0x01010101
    mov dword [ALIAS + 1], 0x02020202
    xor eax, eax
    cpuid
    mov xDI, CODE_AREA
    call xDI
    check_eq xAX, 0x02020202
    mov xDI, ALIAS
    call xDI
    check_eq xAX, 0x02020202
    mov dword [CODE_AREA + 1], 0x03030303
    xor eax, eax
    cpuid
    mov xDI, ALIAS
    call xDI
    check_eq xAX, 0x03030303
    mov xDI, CODE_AREA
    call xDI
    check_eq xAX, 0x03030303
    ; another page under the linear address
    mov xDI, ALIAS + 0x1000
    mov byte [CODE_AREA + 0x1000], 0xb8
    mov dword [CODE_AREA + 0x1001], 0x04040404
    mov byte [CODE_AREA + 0x1005], 0xc3
    mov byte [CODE_AREA + 0x2000], 0xb8
    mov dword [CODE_AREA + 0x2001], 0x05050505
    mov byte [CODE_AREA + 0x2005], 0xc3
    call xDI
    check_eq xAX, 0x04040404
    add dword [alias_entries + %1], 0x1000
    invlpg [ALIAS + 0x1000]
    call xDI
    check_eq xAX, 0x05050505
    sub dword [alias_entries + %1], 0x1000
    invlpg [ALIAS + 0x1000]
    call xDI
    check_eq xAX, 0x04040404
%endmacro
alias_entries equ PAGE_TABLES + 0x7000

main:
    mov eax, cr0
    or eax, CR0_MP
    mov cr0, eax
    fninit
    mov eax, cr4
    or eax, CR4_OSFXSR | CR4_PSE
    mov cr4, eax
    mov edi, PAGE_TABLES
    mov ecx, 0x8000 / 4
    xor eax, eax
    rep stosd
    mov dword [PAGE_TABLES], PTE_P | PTE_W | PTE_PS
    mov dword [PAGE_TABLES + 8], alias_entries | PTE_P | PTE_W
    mov edi, alias_entries
    mov eax, CODE_AREA | PTE_P | PTE_W
    mov ecx, 16
.alias:
    mov [edi], eax
    add edi, 4
    add eax, 0x1000
    loop .alias
    mov eax, PAGE_TABLES
    mov cr3, eax
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax
    change_code 4, "32-bit code"

    group "the same bytes in 16- and 32-bit code"
    ; covers: self-modifying code
    mov edi, CODE_AREA
    mov byte [edi], 0xb8                ; MOV EAX, 0x90900001 or MOV AX, 1; NOP; NOP
    mov dword [edi + 1], 0x90900001
    mov word [edi + 5], 0xcb66          ; O16 RETF in 32-bit, O32 RETF in 16-bit code
    set_descriptor GDT_FREE, 0, 0xffff, ACCESS_CODE, FLAGS_BYTES16
    set_base GDT_FREE, CODE_AREA
    mov ecx, 3
.modes:
    mov eax, -1
    call GDT_FREE:0
    check_eq eax, 0xffff0001
    mov byte [edi + 5], 0x90
    mov eax, -1
    push cs
    call edi                            ; RETF
    check_eq eax, 0x90900001
    mov byte [edi + 5], 0x66
    dec ecx
    jnz .modes

    mov eax, cr0
    and eax, ~CR0_PG
    mov cr0, eax
    go_long
    mov qword [PAGE_TABLES + 0x2000 + 4 * 8], alias_entries | PTE_P | PTE_W | PTE_U
    mov rdi, alias_entries
    mov eax, CODE_AREA | PTE_P | PTE_W
    mov ecx, 16
.alias64:
    mov [rdi], rax
    add rdi, 8
    add eax, 0x1000
    loop .alias64
    mov rax, cr3
    mov cr3, rax
    change_code 8, "64-bit code"
    finish
