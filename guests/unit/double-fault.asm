; Double faults: which pairs of exceptions make one, and its delivery through an interrupt gate and a task gate: SDM
; volume 3, "Interrupt 8—Double Fault Exception (#DF)".
%include "guest.inc"

TASK_B      equ GDT_FREE
DIRECTORY   equ PAGE_TABLES
TABLE       equ PAGE_TABLES + 0x1000
STATE_B     equ SCRATCH + 0x2000
FAR_IDT     equ 0x700000

%macro break_gate 1                 ; vector: its handler is not there
    mov byte [idt + (%1) * 8 + 5], ACCESS_INT32 & ~0x80
%endmacro
%macro mend_gate 1
    mov byte [idt + (%1) * 8 + 5], ACCESS_INT32
%endmacro

main:
    group "contributory after contributory"
    break_gate V_GP
    mov eax, GDT_END
    expect V_DF, 0, mov es, eax         ; #NP while delivering #GP
    mend_gate V_GP
    break_gate V_DE
    xor ecx, ecx
    expect V_DF, 0, div ecx
    mend_gate V_DE
    break_gate V_NP
    and byte [gdt + USER_DATA - 3 + 5], ~0x80
    mov eax, USER_DATA - 3
    expect V_DF, 0, mov es, eax
    or byte [gdt + USER_DATA - 3 + 5], 0x80
    mend_gate V_NP

    group "handled one after the other"
    break_gate V_UD
    expect V_NP, V_UD * 8 + 3, ud2      ; benign first
    mend_gate V_UD
    break_gate V_DB
    expect V_NP, V_DB * 8 + 3, db 0xf1
    mend_gate V_DB
    break_gate 0x80
    expect V_NP, 0x80 * 8 + 2, int 0x80
    mend_gate 0x80

    group "page faults"
    mov edi, DIRECTORY
    mov ecx, 0x2000 / 4
    xor eax, eax
    rep stosd
    mov dword [DIRECTORY], PTE_P | PTE_W | PTE_U | PTE_PS
    mov dword [DIRECTORY + 4], TABLE | PTE_P | PTE_W | PTE_U
    mov edi, TABLE
    mov eax, 0x400000 | PTE_P | PTE_W | PTE_U
.identity:
    mov [edi], eax
    add edi, 4
    add eax, 0x1000
    cmp edi, TABLE + 0x1000
    jb .identity
    mov eax, cr4
    or eax, CR4_PSE
    mov cr4, eax
    mov eax, DIRECTORY
    mov cr3, eax
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax
    break_gate V_PF
    expect V_DF, 0, mov eax, [0x800000]             ; #NP while delivering #PF
    mend_gate V_PF
    ; the gate of #PF on a missing page, that of #DF on another
    mov esi, idt
    mov edi, FAR_IDT + 0x1000 - V_PF * 8
    mov ecx, 256 * 8
    rep movsb
    mov word [far_idt_pointer], 256 * 8 - 1
    mov dword [far_idt_pointer + 2], FAR_IDT + 0x1000 - V_PF * 8
    mov eax, [FAR_IDT + 0x1000]
    lidt [far_idt_pointer]
    and dword [TABLE + ((FAR_IDT + 0x1000 - 0x400000) >> 12) * 4], ~PTE_P
    invlpg [FAR_IDT + 0x1000]
    expect V_DF, 0, mov eax, [0x800000]             ; #PF while delivering #PF
    check_eq [event.cr2], FAR_IDT + 0x1000          ; of the second
    ; #PF while delivering something benign
    or dword [TABLE + ((FAR_IDT + 0x1000 - 0x400000) >> 12) * 4], PTE_P
    mov edi, FAR_IDT + 0x2000 - 0x60 * 8            ; vectors from 0x60 on are on the missing page
    mov esi, idt
    mov ecx, 256 * 8
    rep movsb
    mov dword [far_idt_pointer + 2], FAR_IDT + 0x2000 - 0x60 * 8
    lidt [far_idt_pointer]
    and dword [TABLE + ((FAR_IDT + 0x2000 - 0x400000) >> 12) * 4], ~PTE_P
    invlpg [FAR_IDT + 0x2000]
    expect V_PF, 0, int 0x70
    check_eq [event.cr2], FAR_IDT + 0x2000 + 0x10 * 8
    lidt [idt_pointer]

    group "through a task gate"
    mov dword [task_state.sp0], ENTRY_STACK_TOP
    set_descriptor TASK_B, STATE_B, 0x67, ACCESS_TSS32, FLAGS_BYTES16
    mov edi, STATE_B
    mov ecx, 0x68 / 4
    xor eax, eax
    rep stosd
    mov dword [STATE_B + 4], SCRATCH + 0x6000
    mov dword [STATE_B + 8], DATA32
    mov dword [STATE_B + 0x1c], DIRECTORY
    mov dword [STATE_B + 0x20], .task
    mov dword [STATE_B + 0x24], 2
    mov dword [STATE_B + 0x38], SCRATCH + 0x7000
    mov dword [STATE_B + 0x4c], CODE32
    mov dword [STATE_B + 0x50], DATA32
    mov dword [STATE_B + 0x54], DATA32
    mov dword [STATE_B + 0x48], DATA32
    set_gate idt + V_DF * 8, TASK_B, 0, ACCESS_TASK_GATE, 0
    mov esp, 0x900000                               ; no stack at all
.push:
    push eax
    fail
.task:
    pop eax                                         ; the error code
    check_eq eax, 0
    str eax
    check_eq eax, TASK_B
    movzx eax, word [STATE_B]
    check_eq eax, TASK
    check_eq [task_state + 0x20], .push
    check_eq [task_state + 0x38], 0x900000
    mov eax, cr2
    check_eq eax, 0x900000 - 4
    finish

align 4
far_idt_pointer: dw 0
                dd 0
