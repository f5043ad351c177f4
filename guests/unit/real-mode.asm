; Real-address mode: SDM volume 3, "8086 Emulation", and volume 2 for the real-address parts of each operation.
%include "guest.inc"

DATA_SEGMENT equ SCRATCH >> 4        ; 0x3000

main:
    go_real

    group "segments"
    ; covers: real mode
    mov ax, DATA_SEGMENT
    mov es, ax
    mov ax, DATA_SEGMENT + 1
    mov fs, ax
    mov dword [es:0x10], 0x12345678
    mov eax, [fs:0]
    check_eq eax, 0x12345678
    mov eax, es
    check_eq eax, DATA_SEGMENT
    mov bx, 0xffff              ; 16-bit effective addresses wrap
    mov si, 0x11
    mov eax, [es:bx + si]
    check_eq eax, 0x12345678
    mov ax, 0xffff              ; beyond 1 MiB: address line 20 is there
    mov gs, ax
    mov dword [gs:0x10], 0xa5a55a5a
    xor ax, ax
    mov fs, ax
    mov dword [fs:0x500], 0
    mov eax, [gs:0x10]
    check_eq eax, 0xa5a55a5a
    mov eax, 0x11
    mov ds, ax                  ; a null selector in protected mode, nothing special here
    mov eax, [cs:at16(report.failures)]
    mov ebx, ds
    push word REAL_SEGMENT
    pop ds
    check_eq ebx, 0x11
    les bx, [at16(far_pointer)]
    mov eax, es
    check_eq eax, DATA_SEGMENT + 1
    movzx ebx, bx
    check_eq ebx, 0x1234
    lfs edx, [at16(far_pointer32)]
    mov eax, fs
    check_eq eax, DATA_SEGMENT + 2
    check_eq edx, 0x12345678

    group "limits"
    mov ax, DATA_SEGMENT
    mov es, ax
    expect V_GP, 0, mov ax, [es:0xffff]
    expect V_GP, 0, mov [es:0xffff], ax
    expect V_GP, 0, mov eax, [es:0xfffd]
    expect_nothing mov al, [es:0xffff]
    expect_nothing mov ax, [es:0xfffe]
    mov ebx, 0x10000
    expect V_GP, 0, mov al, [es:ebx]
    mov ebx, -1
    expect V_GP, 0, mov al, [es:ebx]
    mov bp, 0xffff
    expect V_SS, 0, mov ax, [bp]
    mov ebp, 0x10000
    expect V_SS, 0, mov al, [ebp]
    expect V_SS, 0, add [ebp], al
    expect V_SS, 0, mov al, [ss:ebx]
    expect V_GP, 0, mov al, [es:ebp]
    expect V_GP, 0, jmp dword LOAD_ADDRESS + 0x10005

    group "stack"
    mov bx, sp
    mov ax, DATA_SEGMENT
    mov ss, ax
    xor sp, sp
    push word 0x1234            ; SP wraps
    mov dx, sp
    mov cx, [ss:0xfffe]
    xor ax, ax
    mov ss, ax
    mov sp, bx
    movzx edx, dx
    check_eq edx, 0xfffe
    movzx ecx, cx
    check_eq ecx, 0x1234
    mov ebp, esp
    push sp                     ; the value before, since the 80286
    pop ax
    movzx eax, ax
    movzx ebx, bp
    check_eq eax, ebx
    mov eax, 0x11111111
    mov ebx, 0x22222222
    mov ecx, 0x33333333
    mov edx, 0x44444444
    mov esi, 0x55555555
    mov edi, 0x66666666
    pusha
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    xor ebx, ebx
    xor esi, esi
    xor edi, edi
    popa
    check_eq eax, 0x1111
    check_eq edi, 0x6666
    check_eq ebx, 0x2222
    mov eax, 0x11111111
    pushad
    mov eax, [esp + 28]
    check_eq eax, 0x11111111
    xor eax, eax
    popad
    check_eq eax, 0x11111111
    mov bx, sp
    mov bp, 0x7000
    enter 8, 0
    mov ax, sp
    leave
    sub bx, ax
    movzx ebx, bx
    check_eq ebx, 10
    movzx ebp, bp
    check_eq ebp, 0x7000
    mov bx, sp
    push word 0x77
    pop word [at16(scratch)]
    mov ax, [at16(scratch)]
    movzx eax, ax
    check_eq eax, 0x77
    push fs
    pop gs
    mov eax, gs
    check_eq eax, DATA_SEGMENT + 2

    group "flags"
    push dword FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_CF
    popfd
    pushfd
    pop eax
    push dword 2
    popfd
    check_eq eax, FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_CF | 2
    push dword FLAG_AC | FLAG_ID
    popfd
    push word 0x7fff & ~(FLAG_TF | FLAG_IF)
    popf
    pushfd
    pop eax
    push dword 2
    popfd
    check_eq eax, FLAG_AC | FLAG_ID | (0x7fd7 & ~(FLAG_TF | FLAG_IF))
    push dword FLAG_VM | FLAG_RF
    popfd
    pushfd
    pop eax
    check_eq eax, 2

    group "interrupts"
    mov ax, sp
    movzx ecx, ax
    push dword FLAG_IF | FLAG_CF | FLAG_DF | FLAG_AC
    popfd
    expect_trap 0x40, 0, int 0x40
    mov eax, [at16(event.flags)]
    check_eq eax, FLAG_IF | FLAG_CF | FLAG_DF | 2
    mov eax, [at16(event.handler_flags)]
    check_eq eax, FLAG_CF | FLAG_DF | 2             ; IF, TF and AC are cleared
    cld
    check_eq [at16(event.cs)], REAL_SEGMENT
    check_eq [at16(event.sp)], ecx
    mov eax, [at16(event.handler_sp)]
    sub ecx, 6
    check_eq eax, ecx
    expect_trap V_BP, 0, int3
    mov al, 0x7f
    add al, 1
    expect_trap V_OF, 0, into
    clc
    mov al, 1
    add al, 1
    expect_nothing into
    expect_trap V_DE, 0, int 0
    mov dword [at16(bounds)], 0x00050003
    mov ax, 2
    expect V_BR, 0, bound ax, [at16(bounds)]
    mov ax, 5
    expect_nothing bound ax, [at16(bounds)]
    xor bx, bx
    mov ax, 1
    xor dx, dx
    expect V_DE, 0, div bx
    mov bl, 1
    mov ax, 0x100
    expect V_DE, 0, div bl
    mov ax, -32768
    mov dx, -1
    mov bx, -1
    expect V_DE, 0, idiv bx
    expect V_DE, 0, aam 0
    ; IRET brings CS:IP and the low 16 flags back
    push word FLAG_CF | FLAG_ZF
    push cs
    push word at16(.returned)
    iret
    fail
.returned:
    pushfd
    pop eax
    check_eq eax, FLAG_CF | FLAG_ZF | 2
    push dword FLAG_ID | FLAG_SF
    push dword REAL_SEGMENT
    push dword at16(.returned32)
    iretd
    fail
.returned32:
    pushfd
    pop eax
    check_eq eax, FLAG_ID | FLAG_SF | 2
    push dword 2
    popfd
    mov ebx, esp
    push dword 2
    push dword REAL_SEGMENT
    push dword 0x10000
    expect V_GP, 0, iretd
    mov esp, ebx

    group "interrupt vector table"
    mov ax, DATA_SEGMENT
    mov es, ax
    xor ax, ax
    mov fs, ax
    xor si, si
.copy:
    mov eax, [fs:si]
    mov [es:si], eax
    add si, 4
    cmp si, 0x400
    jb .copy
    mov dword [fs:0x40 * 4], (REAL_SEGMENT << 16) + at16(.wrong)
    mov word [at16(table)], 0x3ff
    mov dword [at16(table) + 2], SCRATCH
    o32 lidt [at16(table)]
    expect_trap 0x40, 0, int 0x40
    sidt [at16(stored_table)]
    mov eax, [at16(stored_table) + 2]
    check_eq eax, SCRATCH
    mov word [at16(table)], 14 * 4 - 1          ; shorter: #GP for the vectors beyond
    o32 lidt [at16(table)]
    expect V_GP, 0, int 0x40
    mov dword [at16(table) + 2], 0xff000000 + SCRATCH
    lidt [at16(table)]                          ; 24 bits of base
    sidt [at16(stored_table)]
    expect V_UD, 0, ud2
    lidt [at16(real_idt_pointer)]
    jmp .group_end
.wrong:
    fail
.group_end:

    group "far transfers"
    call REAL_SEGMENT:at16(.far)
    jmp .far_returned
.far:
    mov bp, sp
    mov ax, [bp + 2]
    movzx eax, ax
    retf
.far_returned:
    check_eq eax, REAL_SEGMENT
    mov bx, sp
    push word 1
    push word 2
    call far [at16(.far_target)]
    sub bx, sp
    movzx ebx, bx
    check_eq ebx, 0
    jmp .after_indirect
.far_target: dw at16(.far_release), REAL_SEGMENT
.far_release:
    retf 4
.after_indirect:
    call dword REAL_SEGMENT:at16(.far32)
    jmp .far32_returned
.far32:
    mov bp, sp
    mov eax, [bp + 4]
    o32 retf
.far32_returned:
    movzx eax, ax
    check_eq eax, REAL_SEGMENT
    jmp (REAL_SEGMENT - 0x100):(at16(.aliased) + 0x1000)
.aliased:
    mov eax, cs
    jmp REAL_SEGMENT:at16(.home)
.home:
    check_eq eax, REAL_SEGMENT - 0x100
    expect V_GP, 0, jmp dword REAL_SEGMENT:0x10000

    group "code at the end of the segment"
    mov ax, DATA_SEGMENT
    mov es, ax
    mov byte [es:0xffff], 0x90                  ; NOP
    mov byte [es:0], 0xf4
    expect_at V_GP, 0, 0, jmp DATA_SEGMENT:0xffff
    check_eq [at16(event.cs)], DATA_SEGMENT
    mov word [es:0xfffe], 0xb890                ; NOP, and the start of MOV AX, imm16
    expect_at V_GP, 0, 0xffff, jmp DATA_SEGMENT:0xfffe
    check_eq [at16(event.cs)], DATA_SEGMENT
    mov word [es:0xfffe], 0x00eb                ; JMP +0: IP wraps, the operand size is 16
    mov word [es:0], 0x0b0f                     ; UD2
    expect_at V_UD, 0, 0, jmp DATA_SEGMENT:0xfffe

    group "string instructions"
    mov ax, DATA_SEGMENT
    mov es, ax
    mov fs, ax
    mov dword [es:0], 0x44332211
    mov dword [es:0xfffc], 0x88776655
    mov si, 0xffff
    fs lodsb
    movzx eax, al
    check_eq eax, 0x88
    movzx esi, si
    check_eq esi, 0
    fs lodsw
    movzx eax, ax
    check_eq eax, 0x2211
    std
    fs lodsb
    cld
    movzx esi, si
    check_eq esi, 1
    mov cx, 6                                   ; DI and SI wrap inside of a repetition
    mov si, 0xfffd
    mov di, 0xfffe
    push ds
    push es
    pop ds
    rep movsb
    pop ds
    movzx ecx, cx
    check_eq ecx, 0
    movzx esi, si
    check_eq esi, 3
    movzx edi, di
    check_eq edi, 4
    mov eax, [es:0]
    check_eq eax, 0x66666666
    mov si, 0xffff
    mov di, 0x100
    expect V_GP, 0, fs movsw
    mov cx, 3
    mov si, 0xfffb
    mov di, 0x100
    expect V_GP, 0, fs rep movsw
    movzx ecx, cx
    check_eq ecx, 1
    movzx esi, si
    check_eq esi, 0xffff
    movzx edi, di
    check_eq edi, 0x104
    mov cx, 0
    mov di, 0xffff
    expect_nothing rep stosw                    ; nothing to do, nothing checked
    mov ecx, 0x10000                            ; CX, not ECX, counts
    mov di, 0x200
    mov word [es:0x200], 0x1111
    xor ax, ax
    rep stosw
    mov ax, [es:0x200]
    movzx eax, ax
    check_eq eax, 0x1111
    mov ecx, 2
    mov edi, 0x200
    mov ax, 0x2222
    a32 rep stosw
    mov eax, [es:0x200]
    check_eq eax, 0x22222222
    check_eq edi, 0x204
    mov cx, 10
    mov di, 0x200
    mov al, 0x22
    repe scasb
    movzx edi, di
    check_eq edi, 0x205
    movzx ecx, cx
    check_eq ecx, 5
    mov cx, 10
    mov di, 0x1fe
    repne scasb
    movzx edi, di
    check_eq edi, 0x201
    mov si, 0x200
    mov di, 0x202
    mov cx, 8
    fs repe cmpsb
    check_true a
    movzx si, cl
    movzx esi, si
    check_eq esi, 5

    group "loops"
    mov ecx, 0x10003
    xor ebx, ebx
.loop:
    inc bx
    loop .loop
    check_eq ebx, 3
    check_eq ecx, 0x10000
    jcxz .zero
    fail
.zero:
    jecxz .not_zero
    jmp .not_taken
.not_zero:
    fail
.not_taken:
    mov ecx, 2
    xor ebx, ebx
.loop32:
    inc bx
    a32 loop .loop32
    check_eq ebx, 2
    mov bx, at16(table_of_bytes)
    mov al, 2
    xlatb
    movzx eax, al
    check_eq eax, 30
    mov ax, DATA_SEGMENT
    mov fs, ax
    mov byte [fs:at16(table_of_bytes) + 2], 77
    mov al, 2
    fs xlatb
    movzx eax, al
    check_eq eax, 77

    group "not recognized in real mode"
    expect V_UD, 0, sldt ax
    expect V_UD, 0, str ax
    expect V_UD, 0, lldt ax
    expect V_UD, 0, ltr ax
    expect V_UD, 0, verr ax
    expect V_UD, 0, verw ax
    expect V_UD, 0, lar ax, bx
    expect V_UD, 0, lsl ax, bx
    expect V_UD, 0, arpl ax, bx
    expect V_UD, 0, db 0x8e, 0xc8               ; MOV CS, AX
    expect V_UD, 0, db 0x8e, 0xf0               ; a seventh segment register
    expect V_UD, 0, db 0x8c, 0xf8
    expect V_UD, 0, db 0xf0, 0x90               ; LOCK NOP
    expect V_UD, 0, db 0xf0, 0x01, 0xc0         ; LOCK without memory
    expect V_UD, 0, db 0xc5, 0xc0               ; LDS from a register
    expect V_UD, 0, db 0x0f, 0x05               ; SYSCALL
    expect V_GP, 0, db 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
    expect_nothing db 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
    expect V_GP, 0, sysenter
    expect_nothing smsw ax
    expect_nothing clts
    expect_nothing wbinvd

    go_protected
    finish

use 16
align 4
far_pointer:    dw 0x1234, DATA_SEGMENT + 1
far_pointer32:  dd 0x12345678
                dw DATA_SEGMENT + 2
bounds:         dd 0
table:          dw 0
                dd 0
stored_table:   dw 0
                dd 0
scratch:        dd 0
table_of_bytes: db 10, 20, 30
