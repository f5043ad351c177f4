; A long run of code that rewrites itself in every way: in its own block, in the next one, in another page, through an
; alias mapping, by string instructions, by a device's DMA. What is executed must be what was written last (SDM volume 3,
; "Handling Self- and Cross-Modifying Code"); a checksum of all of it goes to the debug console.
;! instructions=60000000
%include "guest.inc"

CODE_AREA       equ HIGH_SCRATCH
ALIAS           equ 0x800000                ; the same memory at another linear address
SECOND          equ CODE_AREA + 0x1000
THIRD           equ CODE_AREA + 0x2000
alias_entries   equ PAGE_TABLES + 0x7000
FW_CFG_DMA      equ 0x514
FEW_CALLS       equ 16
MANY_CALLS      equ 12000                   ; enough to be worth compiling under ordinary settings

main:
    go_long
    mov qword [PAGE_TABLES + 0x2000 + 4 * 8], alias_entries | PTE_P | PTE_W | PTE_U
    mov rdi, alias_entries
    mov eax, CODE_AREA | PTE_P | PTE_W
    mov ecx, 16
.alias:
    mov [rdi], rax
    add rdi, 8
    add eax, 0x1000
    loop .alias
    mov rax, cr3
    mov cr3, rax
    mov rdi, CODE_AREA                      ; MOV EAX, imm32; RET in each of three pages
    mov ecx, 3
.functions:
    mov byte [rdi], 0xb8
    mov dword [rdi + 1], 0
    mov byte [rdi + 5], 0xc3
    add rdi, 0x1000
    loop .functions
    mov r12, 0x9e3779b97f4a7c15
    xor r13, r13
    mov r14d, [rounds]

    group "rewriting"
; R12: random numbers; R13: checksum; R14D: rounds left; R15D: what the code has to return; RBP: the function to call again.
round:
    mov rax, 6364136223846793005
    imul r12, rax
    mov rax, 1442695040888963407
    add r12, rax
    mov r15, r12
    shr r15, 32
    mov rbp, CODE_AREA
    mov rax, r12
    shr rax, 28
    and eax, 7
    jmp [ways + rax * 8]

same_block:
    mov [.patched + 1], r15d
.patched:
    mov eax, 0
    jmp executed

next_block:
    mov [.patched + 1], r15d
    jmp short .next
.next:
    nop
.patched:
    mov eax, 0
    jmp executed

other_page:
    mov [CODE_AREA + 1], r15d
    call rbp
    jmp executed

through_alias:
    mov [ALIAS + 1], r15d
    xor eax, eax
    cpuid                                   ; serializes
    call rbp
    jmp executed

; One to four bytes of item 0, "QEMU", into the immediate.
by_dma:
    mov ecx, r15d
    and ecx, 3
    mov r15d, [CODE_AREA + 1]
    mov eax, [masks + rcx * 4]
    mov edx, eax
    not edx
    and r15d, edx
    and eax, 0x554d4551
    or r15d, eax
    lea eax, [rcx + 1]
    bswap eax
    mov [dma.length], eax
    mov dword [dma.control], 0x0a000000     ; select, read
    mov eax, CODE_AREA + 1
    bswap eax
    mov [dma.low], eax
    mov edx, FW_CFG_DMA
    xor eax, eax
    out dx, eax
    mov eax, dma
    bswap eax
    add edx, 4
    out dx, eax
.wait:
    test dword [dma.control], ~0x01000000
    jnz .wait
    call rbp
    jmp executed

by_string:
    mov [value], r15d
    mov rsi, value
    mov rdi, SECOND + 1
    mov ecx, 4
    rep movsb
    mov rbp, SECOND
    call rbp
    jmp executed

; The function moves by a byte, all of it in one store: with and without a NOP in front.
another_length:
    mov eax, r15d
    shl rax, 8
    mov rcx, 0xc300000000b8
    or rax, rcx
    test r15d, 1
    jz .stored
    shl rax, 8
    or rax, 0x90
.stored:
    mov rbp, THIRD
    mov [rbp], rax
    call rbp
    jmp executed

; A loop that rewrites what it has just executed, in each of eight turns.
own_loop:
    mov [.patched + 1], r15d
    mov ecx, 8
.again:
.patched:
    mov eax, 0
    add [.patched + 1], ecx
    dec ecx
    jnz .again
    add r15d, 8 + 7 + 6 + 5 + 4 + 3 + 2

executed:
    cmp eax, r15d
    jne .wrong
    rol r13, 7
    xor r13, rax
    ; Again, until it has been worth compiling.
    mov ecx, FEW_CALLS
    mov rax, r12
    shr rax, 40
    test eax, 63
    jnz .hot
    mov ecx, MANY_CALLS
.hot:
    call rbp
    add r13, rax
    dec ecx
    jnz .hot
    dec r14d
    jnz round

    mov ecx, 16
.digit:
    rol r13, 4
    mov eax, r13d
    and eax, 15
    mov al, [digits + rax]
    call put_64
    loop .digit
    mov al, 10
    call put_64
    mov rbp, CODE_AREA
    call rbp
    mov ecx, [CODE_AREA + 1]
    check_eq rax, rcx
    finish
.wrong:
    check_eq rax, r15
    finish

align 16
ways:       dq same_block, next_block, other_page, through_alias, by_dma, by_string, another_length, own_loop
masks:      dd 0xff, 0xffff, 0xffffff, 0xffffffff
value:      dd 0
digits:     db "0123456789abcdef"
align 16
dma:
.control:   dd 0
.length:    dd 0
.high:      dd 0
.low:       dd 0
align 16
            db "rounds: "                   ; by which `npm run stress` finds and changes it
rounds:     dd 1000
