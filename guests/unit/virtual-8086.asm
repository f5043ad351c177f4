; Virtual-8086 mode, its extensions (VME) and protected-mode virtual interrupts (PVI): SDM volume 3, "8086 Emulation".
%include "guest.inc"

TASK_B      equ GDT_FREE
CODE_1      equ GDT_FREE + 8
CONFORMING  equ GDT_FREE + 16
SEGMENT_A   equ SCRATCH >> 4
STATE_B     equ SCRATCH + 0x2000
V86_STACK   equ 0xf000              ; offset in SEGMENT_A's 64 KiB

; vector, error code, instruction in virtual-8086 mode
%macro v86_expect 3+.nolist
    call arm_32
    dd %1, %2, at16(%%at), %%after, __?LINE?__
    call to_v86
  use 16
%%at:
    %3
    hlt
  use 32
%%after:
    call settle_32
%endmacro
%macro v86_expect_trap 3+.nolist
    call arm_32
    dd %1, %2, at16(%%trap), %%after, __?LINE?__
    call to_v86
  use 16
    %3
%%trap:
    hlt
  use 32
%%after:
    call settle_32
%endmacro
; HLT, which always faults, says that the instruction did without
%macro v86_run 1+.nolist
    call arm_32
    dd V_GP, 0, at16(%%done), %%after, __?LINE?__
    call to_v86
  use 16
    %1
%%done:
    hlt
  use 32
%%after:
    call settle_32
%endmacro
%macro v86_expect_at 4+.nolist
    call arm_32
    dd %1, %2, %3, %%after, __?LINE?__
    call to_v86
  use 16
    %4
    hlt
  use 32
%%after:
    call settle_32
%endmacro
%macro flags86 1
    mov dword [v86.flags], (%1) | FLAG_VM | 2
%endmacro
; the word that the last push left
%macro check_pushed 1.nolist
    mov esi, [event.sp]
    movzx esi, word [SCRATCH + esi]
    check_eq esi, %1
%endmacro
%macro push86 1-*               ; words on the program's stack, the last on top
  %assign place V86_STACK
  %rep %0
    %assign place place - 2
    mov word [SCRATCH + place], %1
    %rotate 1
  %endrep
    mov dword [v86.sp], place
%endmacro

main:
    mov word [gdt + TASK], 0x68 + 0x20 + 0x90   ; TSS with redirection and I/O bitmaps
    and byte [gdt + TASK + 5], ~2
    mov eax, TASK
    ltr ax
    mov word [task_state.map], task_map - task_state
    mov edi, task_map - 32
    mov ecx, 32 + 0x90
    mov al, 0xff
    rep stosb
    set_descriptor TASK_B, STATE_B, 0x67, ACCESS_TSS32, FLAGS_BYTES16
    set_descriptor CODE_1, 0, 0xfffff, ACCESS_CODE + 0x20, FLAGS_PAGES32
    set_descriptor CONFORMING, 0, 0xfffff, ACCESS_CONFORMING, FLAGS_PAGES32

    group "entry and exit"
    flags86 FLAG_CF
    v86_expect V_UD, 0, ud2
    check_eq [event.cs], REAL_SEGMENT
    check_eq [event.flags], FLAG_CF | FLAG_VM | FLAG_RF | 2
    check_eq [event.ss], SEGMENT_A
    check_eq [event.sp], V86_STACK
    check_eq [event.ds], REAL_SEGMENT
    check_eq [event.es], SEGMENT_A
    check_eq [event.fs], 0x1234
    check_eq [event.gs], 0xffff
    check_eq [event.handler_ds], 0              ; data segments are null in the handler
    check_eq [event.handler_sp], ENTRY_STACK_TOP - 9 * 4 - 4
    check_eq [event.handler_flags], FLAG_CF | 2
    push dword 0
    push dword 0
    push dword 0
    push dword 0
    push dword SEGMENT_A
    push dword V86_STACK
    push dword FLAG_VM | 2
    push dword REAL_SEGMENT
    push dword 0x10000
    expect V_GP, 0, iretd                       ; EIP beyond 64 KiB
    add esp, 36

    group "segments"
    flags86 0
    mov dword [SCRATCH + 0x100], 0x12345678
    v86_run mov eax, [es:0x100]
    check_eq eax, 0x12345678
    v86_expect V_GP, 0, mov ax, [es:0xffff]
    v86_expect V_SS, 0, mov ax, [ss:0xffff]
    mov ebx, 0x10000
    v86_expect V_GP, 0, mov al, [ebx]
    mov ebp, 0xffff
    v86_expect V_SS, 0, mov ax, [bp]
    mov ax, 0x77                                ; any selector will do
    v86_run mov es, ax
    check_eq [event.es], 0x77
    v86_run mov [cs:at16(main)], byte 0xb8
    v86_expect_at V_GP, 0, at16(v86_far.end), call REAL_SEGMENT:at16(v86_far)
    mov esi, [event.sp]
    movzx eax, word [SCRATCH + esi + 2]
    check_eq eax, REAL_SEGMENT
    v86_expect_at V_GP, 0, at16(v86_over), jmp REAL_SEGMENT:at16(v86_over)

    group "privileged instructions"
    v86_expect V_GP, 0, hlt
    v86_expect V_GP, 0, mov eax, cr0
    v86_expect V_GP, 0, mov cr0, eax
    v86_expect V_GP, 0, mov eax, dr7
    v86_expect V_GP, 0, clts
    v86_expect V_GP, 0, lmsw ax
    v86_expect V_GP, 0, lgdt [0]
    v86_expect V_GP, 0, wbinvd
    v86_expect V_GP, 0, invlpg [0]
    v86_expect V_GP, 0, rdmsr
    v86_expect V_UD, 0, lldt ax
    v86_expect V_UD, 0, ltr ax
    v86_expect V_UD, 0, sldt ax
    v86_expect V_UD, 0, str ax
    v86_expect V_UD, 0, lar ax, ax
    v86_expect V_UD, 0, lsl ax, ax
    v86_expect V_UD, 0, verr ax
    v86_expect V_UD, 0, arpl ax, ax
    v86_run smsw ax
    v86_run rdtsc
    v86_run sgdt [es:0]
    mov eax, CR4_UMIP | CR4_TSD
    mov cr4, eax
    v86_expect V_GP, 0, smsw ax
    v86_expect V_GP, 0, sgdt [es:0]
    v86_expect V_UD, 0, sldt ax
    v86_expect V_GP, 0, rdtsc
    xor eax, eax
    mov cr4, eax

    group "IOPL below 3"
    v86_expect V_GP, 0, cli
    v86_expect V_GP, 0, sti
    v86_expect V_GP, 0, pushf
    v86_expect V_GP, 0, pushfd
    v86_expect V_GP, 0, popf
    v86_expect V_GP, 0, popfd
    v86_expect V_GP, 0, iret
    v86_expect V_GP, 0, iretd
    v86_expect V_GP, 0, int 0x40
    v86_expect V_GP, 0, int USER_DONE
    v86_expect V_GP, V_BP * 8 + 2, int3         ; the gate's DPL counts, IOPL does not
    or byte [idt + V_BP * 8 + 5], DPL3
    v86_expect_trap V_BP, 0, int3
    and byte [idt + V_BP * 8 + 5], ~DPL3
    ; ports: the bitmap decides, whatever IOPL
    v86_expect V_GP, 0, in al, 0x80
    mov byte [task_map + 0x10], 0xfe
    v86_run in al, 0x80
    v86_expect V_GP, 0, in ax, 0x80
    flags86 FLAG_IOPL
    v86_expect V_GP, 0, in al, 0x81
    mov byte [task_map + 0x10], 0xff
    v86_expect V_GP, 0, in al, 0x80

    group "IOPL 3"
    v86_run sti
    check_eq [event.flags], FLAG_VM | FLAG_IOPL | FLAG_IF | FLAG_RF | 2
    flags86 FLAG_IOPL | FLAG_IF
    v86_run cli
    check_eq [event.flags], FLAG_VM | FLAG_IOPL | FLAG_RF | 2
    v86_run pushf
    check_pushed FLAG_IOPL | FLAG_IF | 2
    v86_run pushfd
    mov esi, [event.sp]
    check_eq [SCRATCH + esi], FLAG_IOPL | FLAG_IF | 2    ; VM and RF read as 0
    push86 FLAG_CF
    v86_run popf
    check_eq [event.flags], FLAG_VM | FLAG_IOPL | FLAG_CF | FLAG_RF | 2
    push86 0xffff, FLAG_NT
    v86_run popfd
    check_eq [event.flags], FLAG_VM | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID | 2
    flags86 FLAG_IOPL
    push86 FLAG_ZF | FLAG_IF, REAL_SEGMENT, at16(v86_over)
    v86_expect_at V_GP, 0, at16(v86_over), iret
    check_eq [event.flags], FLAG_VM | FLAG_IOPL | FLAG_ZF | FLAG_IF | FLAG_RF | 2
    mov dword [v86.sp], V86_STACK
    v86_expect V_GP, 0x40 * 8 + 2, int 0x40
    set_gate idt + 0x40 * 8, CODE_1, 0, ACCESS_INT32 + DPL3, 0
    v86_expect V_GP, CODE_1, int 0x40           ; only level 0 can take over
    set_gate idt + 0x40 * 8, CONFORMING, 0, ACCESS_INT32 + DPL3, 0
    v86_expect V_GP, CONFORMING, int 0x40
    call arm_32
    dd USER_DONE, 0, at16(.after_int), .settled, __?LINE?__
    call to_v86
  use 16
    int USER_DONE
.after_int:
    hlt
  use 32
.settled:
    call settle_32
    check_eq [event.cs], REAL_SEGMENT

    group "VME: virtual interrupt flag"
    ; covers: CPUID vme
    mov eax, CR4_VME
    mov cr4, eax
    flags86 0
    v86_run sti
    check_eq [event.flags], FLAG_VM | FLAG_VIF | FLAG_RF | 2
    flags86 FLAG_VIF
    v86_run cli
    check_eq [event.flags], FLAG_VM | FLAG_RF | 2
    flags86 FLAG_VIP
    v86_expect V_GP, 0, sti
    v86_run cli
    flags86 FLAG_VIF
    v86_run pushf
    check_pushed FLAG_IF | FLAG_IOPL | 2
    v86_expect V_GP, 0, pushfd
    v86_expect V_GP, 0, popfd
    v86_expect V_GP, 0, iretd
    flags86 FLAG_IF
    v86_run pushf
    check_pushed FLAG_IOPL | 2
    flags86 0
    push86 FLAG_IF | FLAG_CF
    v86_run popf
    check_eq [event.flags], FLAG_VM | FLAG_VIF | FLAG_CF | FLAG_RF | 2
    flags86 FLAG_VIF | FLAG_VIP
    v86_expect V_GP, 0, popf
    push86 FLAG_CF
    v86_run popf
    check_eq [event.flags], FLAG_VM | FLAG_VIP | FLAG_CF | FLAG_RF | 2
    flags86 0
    push86 FLAG_TF
    v86_expect V_GP, 0, popf
    push86 FLAG_IF | FLAG_ZF, REAL_SEGMENT, at16(v86_over)
    v86_expect_at V_GP, 0, at16(v86_over), iret
    check_eq [event.flags], FLAG_VM | FLAG_VIF | FLAG_ZF | FLAG_RF | 2
    flags86 FLAG_VIP
    v86_expect V_GP, 0, iret
    mov dword [v86.sp], V86_STACK

    group "VME: interrupt redirection"
    flags86 0
    v86_expect V_GP, 0, int 0x41                ; its bit is set: the monitor's
    mov dword [0x41 * 4], (REAL_SEGMENT << 16) + at16(v86_over)
    mov byte [task_map - 32 + 8], 0xfd
    flags86 FLAG_VIF | FLAG_CF | FLAG_IF
    call arm_32
    dd V_GP, 0, at16(v86_over), .redirected, __?LINE?__
    call to_v86
  use 16
    int 0x41
.after_redirection:
    hlt
  use 32
.redirected:
    call settle_32
    check_eq [event.flags], FLAG_VM | FLAG_CF | FLAG_IF | FLAG_RF | 2   ; VIF cleared, IF left
    mov esi, [event.sp]
    check_eq esi, V86_STACK - 6
    movzx eax, word [SCRATCH + esi]
    check_eq eax, at16(.after_redirection)
    movzx eax, word [SCRATCH + esi + 2]
    check_eq eax, REAL_SEGMENT
    movzx eax, word [SCRATCH + esi + 4]
    check_eq eax, FLAG_IOPL | FLAG_IF | FLAG_CF | 2
    flags86 FLAG_IOPL | FLAG_IF
    v86_expect_at V_GP, 0, at16(v86_over), int 0x41
    check_eq [event.flags], FLAG_VM | FLAG_IOPL | FLAG_RF | 2
    v86_expect V_GP, 0x42 * 8 + 2, int 0x42     ; IOPL 3, bit set: the IDT
    flags86 0
    mov word [task_state.map], 0                ; no room for a redirection bitmap: as if all bits were set
    mov word [task_state.map], task_map - task_state
    xor eax, eax
    mov cr4, eax

    group "PVI"
    mov eax, CR4_PVI
    mov cr4, eax
    mov dword [user.flags], 2
    user_run sti
    check_eq [event.flags], FLAG_VIF | 2
    mov dword [user.flags], FLAG_VIF | 2
    user_run cli
    check_eq [event.flags], 2
    mov dword [user.flags], FLAG_VIP | 2
    user_expect V_GP, 0, sti
    mov dword [user.flags], FLAG_IOPL | FLAG_VIF | 2
    user_run sti
    check_eq [event.flags], FLAG_IOPL | FLAG_VIF | FLAG_IF | 2
    mov dword [user.flags], FLAG_VIF | 2
    user_run pushfd                             ; no translation here
    check_eq [USER_STACK_TOP - 4], FLAG_VIF | 2
    mov dword [user.sp], USER_STACK_TOP - 4
    mov dword [USER_STACK_TOP - 4], FLAG_IF
    user_run popfd
    check_eq [event.flags], FLAG_VIF | 2
    mov dword [user.sp], USER_STACK_TOP
    mov dword [user.flags], 2
    xor eax, eax
    mov cr4, eax

    group "by a task switch"
    mov edi, STATE_B
    mov ecx, 0x68 / 4
    rep stosd
    mov dword [STATE_B + 4], ENTRY_STACK_TOP
    mov dword [STATE_B + 8], DATA32
    mov dword [STATE_B + 0x20], at16(v86_over)
    mov dword [STATE_B + 0x24], FLAG_VM | 2
    mov dword [STATE_B + 0x28], 0xe0e0e0e0
    mov dword [STATE_B + 0x38], V86_STACK
    mov dword [STATE_B + 0x48], SEGMENT_A
    mov dword [STATE_B + 0x4c], REAL_SEGMENT
    mov dword [STATE_B + 0x50], SEGMENT_A
    mov dword [STATE_B + 0x54], 0x8765
    expect_at V_GP, 0, at16(v86_over), jmp TASK_B:0
    check_eq [event.cs], REAL_SEGMENT
    check_eq [event.ds], 0x8765
    check_eq [event.es], SEGMENT_A
    check_eq [event.flags], FLAG_VM | FLAG_RF | 2
    check_eq eax, 0xe0e0e0e0
    finish

use 16
v86_far:
    nop
.end:
    hlt
v86_over:
    hlt
use 32

v86:
.ip:    dd 0
.flags: dd FLAG_VM | 2
.sp:    dd V86_STACK

; Goes on in virtual-8086 mode behind the call; general registers stay.
to_v86:
    pop dword [v86.ip]
    push dword 0xffff           ; GS
    push dword 0x1234           ; FS
    push dword REAL_SEGMENT     ; DS
    push dword SEGMENT_A        ; ES
    push dword SEGMENT_A        ; SS
    push dword [v86.sp]
    push dword [v86.flags]
    push dword REAL_SEGMENT
    sub dword [v86.ip], LOAD_ADDRESS
    push dword [v86.ip]
    iretd
