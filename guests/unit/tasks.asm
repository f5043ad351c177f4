; Hardware task switches by JMP, CALL, IRET, task gates and interrupts, between 32-bit and 16-bit TSSs: SDM volume 3,
; "Task Management".
%include "guest.inc"

%assign next_selector GDT_FREE
%macro slot 1
  %1 equ next_selector
  %assign next_selector next_selector + 8
%endmacro
slot TASK_B
slot TASK_16
slot TASK_SHORT
slot TASK_ABSENT
slot TASK_USER              ; DPL 3
slot GATE_B
slot GATE_USER
slot GATE_ABSENT
slot GATE_DATA
slot GATE_LOCAL
slot LOCAL
slot LOCAL_ABSENT
slot CODE_ABSENT
slot DATA_ABSENT
slot CODE_SMALL
slot STACK_16BIT

STATE_B     equ SCRATCH + 0x2000
STATE_16    equ SCRATCH + 0x2100
STACK_B     equ SCRATCH + 0x4000
B_ENTRY0    equ SCRATCH + 0x5000
TASK_VECTOR equ 0x80

; Makes task A the current one, the others available, and fills task B. Changes EAX, ECX, EDI.
%macro fresh 0
    call reset_tasks
%endmacro
%macro expect_in_task 3+.nolist     ; vector, error code, instruction: the fault belongs to the new task's first instruction
    expect_at %1, %2, task_entry, %3
    check_eq [event.cs], USER_CODE32
    str eax
    check_eq eax, TASK_B
    fresh
%endmacro

main:
    set_descriptor TASK_B, STATE_B, 0x67, ACCESS_TSS32, FLAGS_BYTES16
    set_descriptor TASK_16, STATE_16, 0x2b, ACCESS_TSS16, FLAGS_BYTES16
    set_descriptor TASK_SHORT, STATE_B, 0x66, ACCESS_TSS32, FLAGS_BYTES16
    set_descriptor TASK_ABSENT, STATE_B, 0x67, ACCESS_TSS32 & ~0x80, FLAGS_BYTES16
    set_descriptor TASK_USER, STATE_B, 0x67, ACCESS_TSS32 + DPL3, FLAGS_BYTES16
    set_descriptor LOCAL, SCRATCH, 0xff, ACCESS_LDT, FLAGS_BYTES16
    set_descriptor LOCAL_ABSENT, SCRATCH, 0xff, ACCESS_LDT & ~0x80, FLAGS_BYTES16
    set_descriptor CODE_ABSENT, 0, 0xfffff, (ACCESS_CODE + DPL3) & ~0x80, FLAGS_PAGES32
    set_descriptor DATA_ABSENT, 0, 0xfffff, (ACCESS_DATA + DPL3) & ~0x80, FLAGS_PAGES32
    set_descriptor CODE_SMALL, 0, 0xff, ACCESS_CODE + DPL3, FLAGS_BYTES32
    set_descriptor STACK_16BIT, SCRATCH, 0xffff, ACCESS_DATA, FLAGS_BYTES16
    set_gate gdt + GATE_B, TASK_B, 0, ACCESS_TASK_GATE, 0
    set_gate gdt + GATE_USER, TASK_B, 0, ACCESS_TASK_GATE + DPL3, 0
    set_gate gdt + GATE_ABSENT, TASK_B, 0, ACCESS_TASK_GATE & ~0x80, 0
    set_gate gdt + GATE_DATA, DATA32, 0, ACCESS_TASK_GATE, 0
    set_gate gdt + GATE_LOCAL, TASK_B + 4, 0, ACCESS_TASK_GATE, 0
    fresh

    group "JMP to a task"
    ; covers: task switches
    mov eax, 0x11111111
    mov ebx, 0x22222222
    mov ecx, 0x33333333
    mov edx, 0x44444444
    mov esi, 0x55555555
    mov edi, 0x66666666
    mov ebp, 0x77777777
    expect_at USER_DONE, 0, task_entry.end, jmp TASK_B:0x12345678
    mov [SCRATCH], eax
    mov [SCRATCH + 4], edi
    mov eax, cr0
    mov [SCRATCH + 8], eax
    check_eq [SCRATCH], 0xb0000000
    check_eq ecx, 0xb0000001
    check_eq edx, 0xb0000002
    check_eq ebx, 0xb0000003
    check_eq ebp, 0xb0000005
    check_eq esi, 0xb0000006
    check_eq [SCRATCH + 4], 0xb0000007
    check_eq [event.sp], STACK_B
    check_eq [event.ss], USER_DATA
    check_eq [event.cs], USER_CODE32
    check_eq [event.ds], USER_DATA
    check_eq [event.es], 0
    check_eq [event.fs], USER_DATA
    check_eq [event.gs], 3
    check_eq [event.flags], FLAG_CF | FLAG_ID | 2
    check_eq [event.handler_sp], B_ENTRY0 - 24   ; five words and the stub's own
    and dword [SCRATCH + 8], CR0_TS
    check_eq [SCRATCH + 8], CR0_TS
    str eax
    check_eq eax, TASK_B
    movzx eax, byte [gdt + TASK + 5]
    check_eq eax, ACCESS_TSS32              ; A is available again
    movzx eax, byte [gdt + TASK_B + 5]
    check_eq eax, ACCESS_TSS32 | 2
    check_eq [STATE_B], 0xaaaaaaaa          ; no link
    check_eq [task_state + 0x28], 0x11111111    ; what A left: EAX ECX EDX EBX ESP EBP ESI EDI
    check_eq [task_state + 0x2c], 0x33333333
    check_eq [task_state + 0x30], 0x44444444
    check_eq [task_state + 0x34], 0x22222222
    check_eq [task_state + 0x38], STACK_TOP
    check_eq [task_state + 0x3c], 0x77777777
    check_eq [task_state + 0x40], 0x55555555
    check_eq [task_state + 0x44], 0x66666666
    movzx eax, word [task_state + 0x4c]
    check_eq eax, CODE32
    movzx eax, word [task_state + 0x48]
    check_eq eax, DATA32
    fresh
    ; and back by JMP: A goes on behind its own
    mov dword [STATE_B + 0x20], task_jumps_back
    mov dword [STATE_B + 0x4c], CODE32
    mov dword [STATE_B + 0x50], DATA32
    mov dword [STATE_B + 0x38], STACK_B
    mov ebx, 0x12341234
    jmp TASK_B:0
    check_eq ebx, 0x12341234
    str eax
    check_eq eax, TASK
    check_eq [SCRATCH + 16], TASK_B
    check_eq [STATE_B + 0x20], task_jumps_back.end
    fresh

    group "CALL and IRET"
    expect_at USER_DONE, 0, task_entry.end, call TASK_B:0
    mov eax, [event.flags]
    check_eq eax, FLAG_CF | FLAG_ID | FLAG_NT | 2
    movzx eax, word [STATE_B]
    check_eq eax, TASK
    movzx eax, byte [gdt + TASK + 5]
    check_eq eax, ACCESS_TSS32 | 2          ; A stays busy
    fresh
    mov dword [STATE_B + 0x20], task_returns
    mov dword [STATE_B + 0x4c], CODE32
    mov dword [STATE_B + 0x50], DATA32
    mov ecx, 0x43214321
    clts
    call TASK_B:0
    check_eq ecx, 0x43214321
    str eax
    check_eq eax, TASK
    movzx eax, byte [gdt + TASK_B + 5]
    check_eq eax, ACCESS_TSS32
    check_eq [STATE_B + 0x20], task_returns.end
    check_eq [STATE_B + 0x24], FLAG_CF | FLAG_ID | 2    ; NT is not saved by IRET
    movzx eax, word [task_state]
    check_eq eax, 0
    fresh
    expect_at USER_DONE, 0, task_entry.end, call GATE_B:0
    fresh
    expect_at USER_DONE, 0, task_entry.end, jmp GATE_B:0
    fresh
    ; from level 3, through a gate and through the TSS descriptor
    user_expect_at USER_DONE, 0, task_entry.end, call GATE_USER:0
    movzx eax, word [task_state + 0x4c]
    check_eq eax, USER_CODE32
    movzx eax, word [task_state + 0x50]
    check_eq eax, USER_DATA
    fresh
    user_expect_at USER_DONE, 0, task_entry.end, jmp TASK_USER + 3:0
    fresh

    group "refused before the switch"
    expect V_GP, TASK, jmp TASK:0                   ; busy
    expect V_GP, TASK, call TASK:0
    expect V_NP, TASK_ABSENT, jmp TASK_ABSENT:0
    expect V_TS, TASK_SHORT, jmp TASK_SHORT:0
    expect V_GP, GATE_B, call GATE_B + 1:0
    expect V_GP, TASK_B, jmp TASK_B + 1:0
    expect V_NP, GATE_ABSENT, call GATE_ABSENT:0
    expect V_GP, DATA32, call GATE_DATA:0
    expect V_GP, TASK_B + 4, call GATE_LOCAL:0
    user_expect V_GP, TASK_B, jmp TASK_B:0
    user_expect V_GP, GATE_B, call GATE_B:0
    set_gate gdt + GATE_DATA, TASK, 0, ACCESS_TASK_GATE, 0
    expect V_GP, TASK, call GATE_DATA:0             ; a gate to a busy task
    set_gate gdt + GATE_DATA, TASK_ABSENT, 0, ACCESS_TASK_GATE, 0
    expect V_NP, TASK_ABSENT, call GATE_DATA:0
    movzx eax, byte [gdt + TASK_B + 5]
    check_eq eax, ACCESS_TSS32
    str eax
    check_eq eax, TASK
    ; IRET with NT
    mov word [task_state], TASK_B                   ; not busy
    push dword FLAG_NT | 2
    popfd
    expect V_TS, TASK_B, iretd
    mov word [task_state], DATA32
    push dword FLAG_NT | 2
    popfd
    expect V_TS, DATA32, iretd
    mov word [task_state], GDT_END
    push dword FLAG_NT | 2
    popfd
    expect V_TS, GDT_END, iretd
    mov word [task_state], TASK_B + 4
    push dword FLAG_NT | 2
    popfd
    expect V_TS, TASK_B + 4, iretd
    mov word [task_state], 0
    fresh

    group "faults in the new task"
    mov word [STATE_B + 0x60], DATA32               ; LDT
    expect_in_task V_TS, DATA32, jmp TASK_B:0
    mov word [STATE_B + 0x60], LOCAL_ABSENT
    expect_in_task V_TS, LOCAL_ABSENT, jmp TASK_B:0
    mov word [STATE_B + 0x60], GDT_END
    expect_in_task V_TS, GDT_END, call TASK_B:0
    mov word [STATE_B + 0x50], 0                    ; SS
    expect_in_task V_TS, 0, jmp TASK_B:0
    mov word [STATE_B + 0x50], DATA32
    expect_in_task V_TS, DATA32, jmp TASK_B:0
    mov word [STATE_B + 0x50], GDT_END + 3
    expect_in_task V_TS, GDT_END, jmp TASK_B:0
    mov word [STATE_B + 0x50], DATA_ABSENT + 3
    expect_in_task V_SS, DATA_ABSENT, jmp TASK_B:0
    mov word [STATE_B + 0x54], DATA32               ; DS
    expect_in_task V_TS, DATA32, jmp TASK_B:0
    mov word [STATE_B + 0x54], DATA_ABSENT + 3
    expect_in_task V_NP, DATA_ABSENT, jmp TASK_B:0
    mov word [STATE_B + 0x48], GDT_END
    expect_in_task V_TS, GDT_END, jmp TASK_B:0      ; ES
    mov word [STATE_B + 0x5c], TASK_16
    expect_in_task V_TS, TASK_16, jmp TASK_B:0      ; GS
    mov word [STATE_B + 0x4c], CODE_ABSENT + 3      ; CS
    expect_at V_NP, CODE_ABSENT, task_entry, jmp TASK_B:0
    fresh
    mov word [STATE_B + 0x4c], CODE_SMALL + 3
    expect_at V_GP, 0, task_entry, jmp TASK_B:0
    check_eq [event.cs], CODE_SMALL + 3
    fresh

    group "task gates of the IDT"
    set_gate idt + TASK_VECTOR * 8, TASK_B, 0, ACCESS_TASK_GATE, 0
    expect_at USER_DONE, 0, task_entry.end, int TASK_VECTOR
    check_eq [event.sp], STACK_B                    ; nothing pushed
    movzx eax, word [STATE_B]
    check_eq eax, TASK
    fresh
    user_expect V_GP, TASK_VECTOR * 8 + 2, int TASK_VECTOR
    set_gate idt + TASK_VECTOR * 8, TASK_B, 0, ACCESS_TASK_GATE & ~0x80, 0
    expect V_NP, TASK_VECTOR * 8 + 2, int TASK_VECTOR
    set_gate idt + TASK_VECTOR * 8, TASK, 0, ACCESS_TASK_GATE, 0
    expect V_GP, TASK, int TASK_VECTOR
    set_gate idt + TASK_VECTOR * 8, DATA32, 0, ACCESS_TASK_GATE, 0
    expect V_GP, DATA32, int TASK_VECTOR
    ; an exception with an error code pushes it on the new task's stack
    set_gate idt + V_NP * 8, TASK_B, 0, ACCESS_TASK_GATE, 0
    mov eax, DATA_ABSENT
    mov dword [STACK_B - 4], 0
    mov dword [STACK_B - 8], 0
    mov dword [STATE_B + 0x24], 2
    expect_at USER_DONE, 0, task_entry.end, mov es, eax
    check_eq [event.sp], STACK_B - 4
    check_eq [STACK_B - 4], DATA_ABSENT & ~3
    mov eax, [task_state + 0x20]
    mov dx, [eax]
    movzx edx, dx
    check_eq edx, 0xc08e                            ; A's EIP is the faulting MOV
    mov eax, [task_state + 0x24]
    and eax, FLAG_RF
    check_eq eax, FLAG_RF
    fresh
    mov dword [STATE_B + 0x20], task_handles
    mov dword [STATE_B + 0x4c], CODE32
    mov dword [STATE_B + 0x50], DATA32
    mov eax, DATA_ABSENT
    expect_nothing mov es, eax                      ; the handler's task changes EAX in A's TSS and returns
    mov ebx, es
    check_eq ebx, DATA32
    fresh
    mov eax, [idt + V_UD * 8]
    mov edx, [idt + V_UD * 8 + 4]
    mov [idt + V_NP * 8], eax
    mov [idt + V_NP * 8 + 4], edx

    group "16-bit TSS"
    mov word [STATE_16 + 0x0e], at16(task_entry16)
    mov word [STATE_16 + 0x10], FLAG_ZF | 2
    mov word [STATE_16 + 0x12], 0xc0c0
    mov word [STATE_16 + 0x14], 0xc1c1
    mov word [STATE_16 + 0x1a], STACK_B - SCRATCH
    mov word [STATE_16 + 0x22], DATA16
    mov word [STATE_16 + 0x24], CODE16
    mov word [STATE_16 + 0x26], STACK_16BIT
    mov word [STATE_16 + 0x28], DATA16
    mov word [STATE_16 + 0x2a], 0
    mov ebx, 0x9999aaaa
    expect_at USER_DONE, 0, at16(task_entry16.end), jmp TASK_16:0
    movzx ebx, ax
    check_eq ebx, 0xc0c0
    movzx ebx, cx
    check_eq ebx, 0xc1c1
    check_eq [event.cs], CODE16
    check_eq [event.ds], DATA16
    check_eq [event.fs], 0
    check_eq [event.gs], 0
    check_eq [event.flags], FLAG_ZF | 2
    str eax
    check_eq eax, TASK_16
    check_eq [task_state + 0x34], 0x9999aaaa
    fresh
    mov word [STATE_16 + 0x0e], at16(task_returns16)
    mov edx, 0x87654321
    call TASK_16:0
    check_eq edx, 0x87654321
    movzx eax, word [STATE_16]
    check_eq eax, TASK
    movzx eax, word [STATE_16 + 0x0e]
    check_eq eax, at16(task_returns16.end)
    movzx eax, word [STATE_16 + 0x10]
    check_eq eax, FLAG_ZF | 2
    fresh
    mov byte [gdt + TASK_16], 0x2a                  ; too short
    expect V_TS, TASK_16, jmp TASK_16:0
    mov byte [gdt + TASK_16], 0x2b

    group "debug traps and debug control"
    mov word [STATE_B + 0x64], 1
    mov eax, 0xffff0ff0
    mov dr6, eax
    mov eax, 0x355                                  ; all local, LE
    mov dr7, eax
    expect_at V_DB, 0, task_entry, jmp TASK_B:0
    mov eax, dr6
    check_eq eax, 0xffff8ff0
    mov eax, dr7
    check_eq eax, 0x600                             ; local enables are gone, GE was set
    check_eq [event.cs], USER_CODE32
    str eax
    check_eq eax, TASK_B
    mov eax, 0x400
    mov dr7, eax
    mov eax, 0xffff0ff0
    mov dr6, eax
    fresh

    group "address spaces"
    mov edi, PAGE_TABLES                            ; two identity maps of 4 MiB pages
    mov ecx, 1024
    mov eax, PTE_P | PTE_W | PTE_U | PTE_PS
.map:
    mov [edi], eax
    mov [edi + 0x1000], eax
    add edi, 4
    add eax, 0x400000
    loop .map
    mov dword [PAGE_TABLES + 0x1000 + 4], PTE_P | PTE_W | PTE_U | PTE_PS | 0x800000
    mov dword [0x800000], 0xb0b0b0b0
    mov dword [0x400000], 0xa0a0a0a0
    mov eax, cr4
    or eax, CR4_PSE
    mov cr4, eax
    mov eax, PAGE_TABLES
    mov cr3, eax
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax
    mov dword [task_state + 0x1c], PAGE_TABLES
    mov dword [STATE_B + 0x1c], PAGE_TABLES + 0x1000
    mov dword [STATE_B + 0x20], task_reads
    mov dword [STATE_B + 0x4c], CODE32
    mov dword [STATE_B + 0x50], DATA32
    mov edx, [0x400000]
    call TASK_B:0
    check_eq edx, 0xa0a0a0a0
    check_eq [STATE_B + 0x30], 0xb0b0b0b0           ; its EDX
    mov edx, [0x400000]
    check_eq edx, 0xa0a0a0a0
    mov eax, cr3
    check_eq eax, PAGE_TABLES
    finish

task_entry:
    int USER_DONE
.end:
    jmp task_entry
task_jumps_back:
    str [SCRATCH + 16]
    mov word [SCRATCH + 18], 0
    jmp TASK:0
.end:
task_returns:
    iretd
.end:
task_handles:
    mov eax, DATA32
    mov [task_state + 0x28], eax
    add esp, 4
    iretd
task_reads:
    mov edx, [0x400000]
    iretd

use 16
task_entry16:
    int USER_DONE
.end:
task_returns16:
    iret
.end:
use 32

reset_tasks:
    and byte [gdt + TASK + 5], ~2
    and byte [gdt + TASK_B + 5], ~2
    and byte [gdt + TASK_16 + 5], ~2
    and byte [gdt + TASK_USER + 5], ~2
    mov eax, TASK
    ltr ax
    xor eax, eax
    lldt ax
    push dword 2
    popfd
    clts
    mov edi, STATE_B
    mov ecx, 0x68 / 4
    rep stosd
    mov dword [STATE_B], 0xaaaaaaaa
    mov dword [STATE_B + 4], B_ENTRY0
    mov dword [STATE_B + 8], DATA32
    mov dword [STATE_B + 0x20], task_entry
    mov dword [STATE_B + 0x24], FLAG_CF | FLAG_ID | 2
    mov edi, STATE_B + 0x28
    mov eax, 0xb0000000
.registers:
    mov [edi], eax
    add edi, 4
    inc eax
    cmp eax, 0xb0000008
    jb .registers
    mov dword [STATE_B + 0x38], STACK_B
    mov dword [STATE_B + 0x48], 0           ; ES CS SS DS FS GS
    mov dword [STATE_B + 0x4c], USER_CODE32
    mov dword [STATE_B + 0x50], USER_DATA
    mov dword [STATE_B + 0x54], USER_DATA
    mov dword [STATE_B + 0x58], USER_DATA
    mov dword [STATE_B + 0x5c], 3
    ret
