; IA-32e mode: 64-bit and compatibility mode, interrupts with and without IST, IRETQ, far transfers, call gates, SYSCALL,
; SYSENTER, SWAPGS, bases of FS and GS: SDM volume 3, "IA-32e Mode Operation" and "Fast System Calls in 64-Bit Mode".
%include "guest.inc"

%assign next_selector GDT_FREE
%macro slot 1-2 8
  %1 equ next_selector
  %assign next_selector next_selector + %2
%endmacro
slot KERNEL_CODE            ; for SYSCALL and SYSENTER: code, stack, then 32-bit code, data and 64-bit code of level 3
slot KERNEL_DATA
slot SYSRET_CODE32
slot SYSRET_DATA
slot SYSRET_CODE64
slot CODE_BOTH              ; L and D
slot CODE_LONG3
slot CONFORMING
slot CODE_SMALL
slot DATA_SMALL
slot GATE, 16
slot GATE_LOW, 16
slot GATE_UPPER, 16
slot GATE_CODE32, 16
slot GATE_FAR, 16
slot LOCAL, 16
slot TASK_B, 16
slot TASK_GATE
slot DATA_ABSENT3
slot SYSENTER_CODE          ; five in a row, again
slot SYSENTER_DATA
slot SYSENTER_CODE32
slot SYSENTER_DATA3
slot SYSENTER_CODE64
slot SYSENTER_DATA64

VECTOR      equ 0x80
IST_TOP     equ SCRATCH + 0x2008    ; not aligned to 16 bytes
HIGH        equ 0x8000000000        ; the first 2 MiB once more

%macro set_gate64 4             ; place, selector, offset, access byte
    mov rax, %3
    mov [%1], ax
    mov word [%1 + 2], %2
    mov word [%1 + 4], (%4) << 8
    shr rax, 16
    mov [%1 + 6], ax
    shr rax, 16
    mov [%1 + 8], eax
    mov dword [%1 + 12], 0
%endmacro
%macro write_msr 3              ; index, high, low
    mov ecx, %1
    mov edx, %2
    mov eax, %3
    wrmsr
%endmacro
%macro check_q 2.nolist         ; with a 64-bit constant
    mov r15, %2
    check_eq %1, r15
%endmacro
; vector, error code, 32-bit instruction at level 3 of compatibility mode
%macro compat_expect 3+.nolist
    call arm_64
    dd %1, %2, %%at, %%after, __?LINE?__
    mov dword [user.cs], USER_CODE32
    call to_user_64
  bits 32
%%at:
    %3
    int USER_DONE
  bits 64
%%after:
    mov dword [user.cs], USER_CODE64
    call settle_64
%endmacro
%macro compat_run 1+.nolist
    call arm_64
    dd USER_DONE, 0, %%done, %%after, __?LINE?__
    mov dword [user.cs], USER_CODE32
    call to_user_64
  bits 32
    %1
    int USER_DONE
%%done:
  bits 64
%%after:
    mov dword [user.cs], USER_CODE64
    call settle_64
%endmacro
%macro iret_frame 5             ; SS, RSP, RFLAGS, CS, RIP
    push %1
    push %2
    push %3
    push %4
    push %5
%endmacro
%macro iret_expect 7.nolist
    iret_frame %1, %2, %3, %4, %5
    expect %6, %7, iretq
    add rsp, 40
%endmacro

%macro jump_far_32 0            ; JMP FAR m16:32 at RSI; nasm would add REX.W
    db 0xff, 0x2e
%endmacro
%macro call_far_32 0
    db 0xff, 0x1e
%endmacro

main:
    set_descriptor KERNEL_CODE, 0, 0xfffff, ACCESS_CODE, FLAGS_LONG
    set_descriptor KERNEL_DATA, 0, 0xfffff, ACCESS_DATA, FLAGS_PAGES32
    set_descriptor SYSRET_CODE32, 0, 0xfffff, ACCESS_CODE + DPL3, FLAGS_PAGES32
    set_descriptor SYSRET_DATA, 0, 0xfffff, ACCESS_DATA + DPL3, FLAGS_PAGES32
    set_descriptor SYSRET_CODE64, 0, 0xfffff, ACCESS_CODE + DPL3, FLAGS_LONG
    set_descriptor SYSENTER_CODE, 0, 0xfffff, ACCESS_CODE, FLAGS_LONG
    set_descriptor SYSENTER_DATA, 0, 0xfffff, ACCESS_DATA, FLAGS_PAGES32
    set_descriptor SYSENTER_CODE32, 0, 0xfffff, ACCESS_CODE + DPL3, FLAGS_PAGES32
    set_descriptor SYSENTER_DATA3, 0, 0xfffff, ACCESS_DATA + DPL3, FLAGS_PAGES32
    set_descriptor SYSENTER_CODE64, 0, 0xfffff, ACCESS_CODE + DPL3, FLAGS_LONG
    set_descriptor SYSENTER_DATA64, 0, 0xfffff, ACCESS_DATA + DPL3, FLAGS_PAGES32
    set_descriptor CODE_BOTH, 0, 0xfffff, ACCESS_CODE, 0xe
    set_descriptor CODE_LONG3, 0, 0xfffff, ACCESS_CODE + DPL3, FLAGS_LONG
    set_descriptor CONFORMING, 0, 0xfffff, ACCESS_CONFORMING, FLAGS_LONG
    set_descriptor CODE_SMALL, SCRATCH, 0xff, ACCESS_CODE + DPL3, FLAGS_BYTES32
    set_descriptor DATA_SMALL, SCRATCH, 0xff, ACCESS_DATA + DPL3, FLAGS_BYTES32
    set_descriptor DATA_ABSENT3, 0, 0xfffff, (ACCESS_DATA + DPL3) & ~0x80, FLAGS_PAGES32
    set_descriptor LOCAL, SCRATCH, 0xfff, ACCESS_LDT, FLAGS_BYTES16
    set_descriptor TASK_B, SCRATCH, 0x67, ACCESS_TSS32, FLAGS_BYTES16
    set_gate gdt + TASK_GATE, TASK_B, 0, ACCESS_TASK_GATE + DPL3, 0
    go_long
    mov qword [PAGE_TABLES + 8], (PAGE_TABLES + 0x1000) | PTE_P | PTE_W | PTE_U

    group "segments in 64-bit mode"
    ; covers: CPUID lm
    mov eax, DATA_SMALL
    mov es, eax
    mov fs, eax
    mov gs, eax
    expect_nothing db 0x26, 0x8a, 0x04, 0x25, 0x00, 0x10, 0x03, 0x00    ; MOV AL, [ES:SCRATCH + 0x1000]: no base, no limit
    mov dword [SCRATCH + 0x200], 0x12345678
    mov eax, [fs:0x200]                                 ; FS has a base
    check_eq rax, 0x12345678
    mov eax, [gs:0x200]
    check_eq rax, 0x12345678
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax                                         ; null is fine at level 0
    mov eax, [SCRATCH + 0x200]
    push rax
    pop rcx
    check_eq rcx, 0x12345678
    mov eax, 3
    expect V_GP, 0, mov ss, eax                         ; its RPL must be the CPL
    mov eax, DATA32
    mov ss, eax
    write_msr MSR_FS_BASE, 0x80, 0x100
    mov eax, [fs:SCRATCH + 0x100]                       ; 64-bit base
    check_eq rax, 0x12345678
    write_msr MSR_GS_BASE, 0xffffffff, 0xfffffff0
    mov eax, [gs:SCRATCH + 0x210]
    check_eq rax, 0x12345678
    write_msr MSR_KERNEL_GS_BASE, 0x80, 0x100
    swapgs
    mov eax, [gs:SCRATCH + 0x100]
    check_eq rax, 0x12345678
    mov ecx, MSR_KERNEL_GS_BASE
    rdmsr
    mov r15d, 0xffffffff
    check_eq rdx, r15
    mov eax, 0
    mov fs, eax
    mov ecx, MSR_FS_BASE
    rdmsr
    check_eq rax, 0                                     ; Intel: a null selector clears the base
    mov eax, DATA_SMALL
    mov fs, eax
    rdmsr
    check_eq rax, SCRATCH
    mov rax, cr4
    or rax, CR4_FSGSBASE
    mov cr4, rax
    mov rcx, 0x7ff123456789
    wrfsbase rcx
    rdfsbase rdx
    check_eq rdx, rcx
    wrgsbase ecx
    rdgsbase rdx
    check_q rdx, 0x23456789
    mov rcx, 0x800000000000
    expect V_GP, 0, wrfsbase rcx
    user_run rdgsbase rcx
    mov rax, cr4
    and rax, ~CR4_FSGSBASE
    mov cr4, rax
    expect V_UD, 0, rdfsbase rcx

    group "interrupts"
    mov rsp, STACK_TOP - 8
    mov rsi, rsp
    expect_trap VECTOR, 0, int VECTOR
    check_eq [event.sp], rsi
    check_eq [event.ss], DATA32
    check_eq [event.handler_sp], STACK_TOP - 16 - 48    ; aligned, SS:RSP pushed without a change of level
    mov rsp, STACK_TOP
    mov byte [idt64 + VECTOR * 16 + 4], 3
    mov qword [task_state + 0x24 + 16], IST_TOP
    expect_trap VECTOR, 0, int VECTOR
    check_eq [event.handler_sp], (IST_TOP & ~15) - 48
    or byte [idt64 + VECTOR * 16 + 5], DPL3
    user_expect_trap VECTOR, 0, int VECTOR
    check_eq [event.handler_sp], (IST_TOP & ~15) - 48
    check_eq [event.sp], USER_STACK_TOP
    check_eq [event.ss], USER_DATA
    check_eq [event.cs], USER_CODE64
    mov byte [idt64 + VECTOR * 16 + 4], 0
    user_expect_trap VECTOR, 0, int VECTOR
    check_eq [event.handler_sp], ENTRY_STACK_TOP - 48
    mov rax, 0x800000000000
    mov [task_state + 0x24 + 16], rax
    mov byte [idt64 + VECTOR * 16 + 4], 3
    expect V_SS, 0, int VECTOR
    mov byte [idt64 + VECTOR * 16 + 4], 0
    user_expect V_GP, V_UD * 8 + 2, int V_UD       ; DPL
    ; gates
    set_gate64 idt64 + VECTOR * 16, CODE32, long_target, ACCESS_INT32
    expect V_GP, CODE32, int VECTOR                     ; the handler must be 64-bit code
    set_gate64 idt64 + VECTOR * 16, CODE_BOTH, long_target, ACCESS_INT32
    expect V_GP, CODE_BOTH, int VECTOR
    set_gate64 idt64 + VECTOR * 16, CODE64, long_target, 0x85
    expect V_GP, VECTOR * 8 + 2, int VECTOR             ; no task gates
    set_gate64 idt64 + VECTOR * 16, CODE64, long_target, 0x86
    expect V_GP, VECTOR * 8 + 2, int VECTOR             ; nor 16-bit ones
    set_gate64 idt64 + VECTOR * 16, CODE64, long_target, ACCESS_INT32 & ~0x80
    expect V_NP, VECTOR * 8 + 2, int VECTOR
    set_gate64 idt64 + VECTOR * 16, CODE64, 0x800000000000, ACCESS_INT32
    expect V_GP, 0, int VECTOR
    set_gate64 idt64 + VECTOR * 16, CODE_LONG3, long_target, ACCESS_INT32
    expect V_GP, CODE_LONG3, int VECTOR
    set_gate64 idt64 + VECTOR * 16, 0, long_target, ACCESS_INT32
    expect V_GP, 0, int VECTOR
    set_gate64 idt64 + VECTOR * 16, CONFORMING, long_target, ACCESS_INT32 + DPL3
    user_expect_at USER_DONE, 0, long_target.end, int VECTOR
    check_eq [event.cs], CONFORMING + 3
    check_eq [event.sp], USER_STACK_TOP - 40
    set_gate64 idt64 + VECTOR * 16, CODE64, long_target, ACCESS_TRAP32 + DPL3
    mov dword [user.flags], FLAG_IF | FLAG_CF | FLAG_NT | FLAG_DF | 2
    user_expect_at USER_DONE, 0, long_target.end, int VECTOR
    check_eq [event.flags], FLAG_IF | FLAG_CF | FLAG_DF | 2
    mov dword [user.flags], 2
    check_eq [event.ss], 0                              ; a null SS at the inner level
    set_gate64 idt64 + VECTOR * 16, CODE64, long_target, ACCESS_INT32 + DPL3
    mov rax, HIGH + long_target
    set_gate64 idt64 + VECTOR * 16, CODE64, rax, ACCESS_INT32 + DPL3
    mov qword [armed.resume], .high_after
    mov [armed.sp], rsp
    int VECTOR
.high_after:
    mov qword [armed.resume], 0
    check_q [event.ip], HIGH + long_target.end

    group "IRETQ"
    iret_frame DATA32, STACK_TOP - 0x100, FLAG_CF | FLAG_ID | FLAG_RF, CODE64, .same_level
    iretq
    fail
.same_level:
    mov rax, rsp
    pushfq
    pop rcx
    push 2
    popfq
    check_eq rax, STACK_TOP - 0x100                     ; SS:RSP always come from the frame
    check_eq rcx, FLAG_CF | FLAG_ID | 2
    mov rsp, STACK_TOP
    iret_frame 0, STACK_TOP, 2, CODE64, .null_stack
    iretq
.null_stack:
    mov eax, ss
    check_eq rax, 0
    mov eax, DATA32
    mov ss, eax
    iret_expect USER_DATA, USER_STACK_TOP, 2, 0, long_target, V_GP, 0
    iret_expect USER_DATA, USER_STACK_TOP, 2, DATA32, long_target, V_GP, DATA32
    iret_expect USER_DATA, USER_STACK_TOP, 2, CODE_BOTH, long_target, V_GP, CODE_BOTH
    iret_expect USER_DATA, USER_STACK_TOP, 2, USER_CODE64 & ~3, long_target, V_GP, USER_CODE64 & ~3
    iret_expect 0, USER_STACK_TOP, 2, USER_CODE32, long_target, V_GP, 0
    iret_expect 3, USER_STACK_TOP, 2, USER_CODE64, long_target, V_GP, 0
    iret_expect DATA32, USER_STACK_TOP, 2, USER_CODE64, long_target, V_GP, DATA32
    iret_expect DATA_ABSENT3 + 3, USER_STACK_TOP, 2, USER_CODE64, long_target, V_SS, DATA_ABSENT3
    mov rbx, 0x800000000000
    iret_expect USER_DATA, USER_STACK_TOP, 2, USER_CODE64, rbx, V_GP, 0
    push qword FLAG_NT | 2
    popfq
    expect V_GP, 0, iretq                               ; no tasks to return to
    iret_expect USER_DATA, USER_STACK_TOP, 2, CODE_SMALL + 3, 0x100, V_GP, 0
    mov rbx, 0x123456789abcdef0
    iret_frame USER_DATA, rbx, FLAG_IOPL | FLAG_IF | FLAG_AC | 2, USER_CODE64, long_target
    expect_at USER_DONE, 0, long_target.end, iretq
    add rsp, 40
    check_eq [event.sp], rbx
    check_eq [event.flags], FLAG_IOPL | FLAG_IF | FLAG_AC | 2

    group "far transfers"
    mov rsi, SCRATCH
    mov rax, long_target
    mov [rsi], rax
    mov word [rsi + 8], CODE64
    expect_at USER_DONE, 0, long_target.end, o64 jmp far [rsi]
    mov rbx, rsp
    expect_at USER_DONE, 0, long_target.end, o64 call far [rsi]
    sub rbx, 16
    check_eq [event.sp], rbx
    check_eq [rbx + 8], CODE64
    mov word [rsi + 8], CODE_BOTH
    expect V_GP, CODE_BOTH, o64 jmp far [rsi]
    mov word [rsi + 4], CODE64
    expect_at USER_DONE, 0, long_target.end, jump_far_32
    mov rax, 0x800000000000
    mov [rsi], rax
    mov word [rsi + 8], CODE64
    expect V_GP, 0, o64 jmp far [rsi]
    mov word [rsi + 8], TASK_B
    expect V_GP, TASK_B, o64 jmp far [rsi]              ; no task switches
    expect V_GP, TASK_B, o64 call far [rsi]
    mov word [rsi + 8], TASK_GATE
    expect V_GP, TASK_GATE, o64 jmp far [rsi]
    mov word [rsi + 8], LOCAL
    expect V_GP, LOCAL, o64 jmp far [rsi]
    push CODE64
    push long_target
    expect_at USER_DONE, 0, long_target.end, o64 retf
    add rsp, 16

    group "call gates"
    set_gate64 gdt + GATE, CODE64, long_target, ACCESS_CALL32 + DPL3
    set_gate64 gdt + GATE_LOW, CODE64, long_target, ACCESS_CALL32
    set_gate64 gdt + GATE_UPPER, CODE64, long_target, ACCESS_CALL32 + DPL3
    mov dword [gdt + GATE_UPPER + 12], 0x800
    set_gate64 gdt + GATE_CODE32, CODE32, long_target, ACCESS_CALL32 + DPL3
    mov rax, 0x800000000000
    set_gate64 gdt + GATE_FAR, CODE64, rax, ACCESS_CALL32 + DPL3
    mov rsi, SCRATCH
    mov word [rsi + 4], GATE
    mov rbx, rsp
    expect_at USER_DONE, 0, long_target.end, call_far_32
    sub rbx, 16
    check_eq [event.sp], rbx
    expect_at USER_DONE, 0, long_target.end, jump_far_32
    user_expect_at USER_DONE, 0, long_target.end, call_far_32
    check_eq [event.cs], CODE64
    check_eq [event.ss], 0
    mov rbx, [event.sp]
    check_eq rbx, ENTRY_STACK_TOP - 32
    check_eq [rbx + 8], USER_CODE64
    check_eq [rbx + 16], USER_STACK_TOP
    check_eq [rbx + 24], USER_DATA
    user_expect V_GP, CODE64, jump_far_32
    mov word [rsi + 4], GATE_LOW
    user_expect V_GP, GATE_LOW, call_far_32
    mov word [rsi + 4], GATE_UPPER
    user_expect V_GP, GATE_UPPER, call_far_32
    mov word [rsi + 4], GATE_CODE32
    user_expect V_GP, CODE32, call_far_32
    mov word [rsi + 4], GATE_FAR
    user_expect V_GP, 0, call_far_32

    group "system segments take 16 bytes"
    mov eax, LOCAL
    mov dword [gdt + LOCAL + 12], 0x100
    expect V_GP, LOCAL, lldt ax                         ; the upper half's type must be 0
    mov dword [gdt + LOCAL + 12], 0
    mov dword [gdt + LOCAL + 8], HIGH >> 32
    expect_nothing lldt ax
    mov dword [SCRATCH + 8], 0x0000ffff
    mov dword [SCRATCH + 12], 0x00cf9200
    mov eax, 8 + 4
    expect_nothing mov es, eax
    mov dword [SCRATCH + 12], 0
    expect V_GP, 8 + 4, mov es, eax
    xor eax, eax
    mov es, eax
    lldt ax

    group "compatibility mode"
    mov ecx, 0x11223344
    mov rdx, -1
    compat_run mov edx, ecx
    check_eq rdx, rcx
    check_eq [event.cs], USER_CODE32
    mov rbx, -1
    compat_run inc eax                                  ; one byte, not a REX prefix
    check_q rbx, -1
    mov eax, DATA_SMALL + 3
    compat_expect V_GP, 0, mov [cs:SCRATCH], al
    mov es, eax
    compat_expect V_GP, 0, mov al, [es:0x100]           ; limits count again
    mov es, eax
    compat_run mov al, [es:0xff]
    xor eax, eax
    mov es, eax
    compat_expect V_GP, 0, mov al, [es:0]
    mov eax, -4
    compat_run cmp dword [eax + SCRATCH + 4], 0         ; 32-bit linear addresses
    compat_expect V_UD, 0, ud2
    compat_expect V_GP, 0, cli
    compat_expect V_GP, TASK_B, jmp TASK_B + 3:0
    compat_expect V_GP, CODE64, jmp CODE64:0
    compat_run nop
    check_eq [event.ss], USER_DATA
    call arm_64
    dd USER_DONE, 0, .from_compat_end, .from_compat_after, __?LINE?__
    mov dword [user.cs], USER_CODE32
    call to_user_64
  bits 32
    jmp USER_CODE64:.from_compat                        ; to 64-bit mode at the same level
  bits 64
.from_compat:
    mov r8, rsp
    int USER_DONE
.from_compat_end:
.from_compat_after:
    mov dword [user.cs], USER_CODE64
    call settle_64
    check_eq [event.cs], USER_CODE64
    call arm_64
    dd USER_DONE, 0, long_target.end, .compat_gate_after, __?LINE?__
    mov dword [user.cs], USER_CODE32
    call to_user_64
  bits 32
    call GATE + 3:0                                     ; inwards through a call gate
  bits 64
.compat_gate_after:
    mov dword [user.cs], USER_CODE64
    call settle_64
    check_eq [event.cs], CODE64
    ; tables beyond 4 GiB are reached from compatibility mode
    mov word [SCRATCH + 0x300], 256 * 16 - 1
    mov rax, HIGH + idt64
    mov [SCRATCH + 0x302], rax
    lidt [SCRATCH + 0x300]
    mov word [SCRATCH + 0x310], GDT_END - 1
    mov rax, HIGH + gdt
    mov [SCRATCH + 0x312], rax
    lgdt [SCRATCH + 0x310]
    mov dword [gdt + TASK + 8], HIGH >> 32
    and byte [gdt + TASK + 5], ~2
    mov eax, TASK
    ltr ax
    mov rax, HIGH + ENTRY_STACK_TOP
    mov [task_state + 4], rax
    compat_expect V_UD, 0, ud2
    check_q [event.handler_sp], HIGH + ENTRY_STACK_TOP - 48
    mov eax, USER_DATA
    compat_run mov es, eax
    user_expect V_GP, 0, cli
    lidt [idt64_pointer]
    lgdt [gdt_pointer]
    mov dword [gdt + TASK + 8], 0
    and byte [gdt + TASK + 5], ~2
    mov eax, TASK
    ltr ax
    mov qword [task_state + 4], ENTRY_STACK_TOP

    group "SYSCALL and SYSRET"
    ; covers: CPUID syscall
    write_msr MSR_STAR, ((SYSRET_CODE32 + 3) << 16) | KERNEL_CODE, 0
    write_msr MSR_LSTAR, 0, long_target
    write_msr MSR_CSTAR, 0, long_target
    write_msr MSR_FMASK, 0, FLAG_IF | FLAG_CF | FLAG_DF
    mov dword [user.flags], FLAG_IF | FLAG_CF | FLAG_ZF | 2
    call arm_64
    dd USER_DONE, 0, long_target.end, .syscall_after, __?LINE?__
    call to_user_64
    syscall
.syscall_return:
    int USER_DONE
.syscall_after:
    call settle_64
    check_eq rcx, .syscall_return
    check_eq r11, FLAG_IF | FLAG_CF | FLAG_ZF | 2
    check_eq [event.flags], FLAG_ZF | 2
    check_eq [event.cs], KERNEL_CODE
    check_eq [event.ss], KERNEL_DATA
    check_eq [event.sp], USER_STACK_TOP                 ; the stack pointer stays
    mov dword [user.flags], 2
    mov rcx, .sysret_target
    mov r11d, FLAG_IF | FLAG_CF | FLAG_RF | FLAG_VM | 2
    mov rbx, rsp
    call arm_64
    dd USER_DONE, 0, .sysret_target_end, .sysret_after, __?LINE?__
    o64 sysret
.sysret_target:
    int USER_DONE
.sysret_target_end:
.sysret_after:
    call settle_64
    check_eq [event.cs], SYSRET_CODE64 + 3
    check_eq [event.ss], SYSRET_DATA + 3
    check_eq [event.flags], FLAG_IF | FLAG_CF | 2
    check_eq [event.sp], rbx
    mov rcx, 0xffffffff00000000 + .sysret32_target
    mov r11d, 2
    call arm_64
    dd USER_DONE, 0, .sysret32_target_end, .sysret32_after, __?LINE?__
    o32 sysret
  bits 32
.sysret32_target:
    int USER_DONE
.sysret32_target_end:
  bits 64
.sysret32_after:
    call settle_64
    check_eq [event.cs], SYSRET_CODE32 + 3
    check_eq [event.ss], SYSRET_DATA + 3
    mov rcx, 0x800000000000
    expect V_GP, 0, o64 sysret                          ; Intel: at level 0
    compat_expect V_UD, 0, syscall                      ; Intel: in 64-bit mode only
    mov ecx, MSR_EFER
    rdmsr
    and eax, ~EFER_SCE
    wrmsr
    user_expect V_UD, 0, syscall
    expect V_UD, 0, o64 sysret
    rdmsr
    or eax, EFER_SCE
    wrmsr

    group "SYSENTER and SYSEXIT"
    ; covers: CPUID sep
    user_expect V_GP, 0, sysenter                       ; no selector yet
    expect V_GP, 0, sysexit
    write_msr MSR_SYSENTER_CS, 0, SYSENTER_CODE + 3
    write_msr MSR_SYSENTER_EIP, 0, long_target
    write_msr MSR_SYSENTER_ESP, HIGH >> 32, STACK_TOP
    mov dword [user.flags], FLAG_IF | FLAG_CF | 2
    user_expect_at USER_DONE, 0, long_target.end, sysenter
    check_eq [event.cs], SYSENTER_CODE
    check_eq [event.ss], SYSENTER_DATA
    check_q [event.sp], HIGH + STACK_TOP
    check_eq [event.flags], FLAG_CF | 2
    mov dword [user.flags], 2
    call arm_64
    dd USER_DONE, 0, long_target.end, .compat_sysenter_after, __?LINE?__
    mov dword [user.cs], USER_CODE32
    call to_user_64
  bits 32
    sysenter
  bits 64
.compat_sysenter_after:
    mov dword [user.cs], USER_CODE64
    call settle_64
    check_eq [event.cs], SYSENTER_CODE
    mov rcx, HIGH + USER_STACK_TOP
    mov rdx, .sysexit_target
    call arm_64
    dd USER_DONE, 0, .sysexit_target_end, .sysexit_after, __?LINE?__
    o64 sysexit
.sysexit_target:
    int USER_DONE
.sysexit_target_end:
.sysexit_after:
    call settle_64
    check_eq [event.cs], SYSENTER_CODE64 + 3
    check_eq [event.ss], SYSENTER_DATA64 + 3
    check_q [event.sp], HIGH + USER_STACK_TOP
    mov rcx, 0xffffffff00000000 + USER_STACK_TOP
    mov rdx, 0xffffffff00000000 + .sysexit32_target
    call arm_64
    dd USER_DONE, 0, .sysexit32_target_end, .sysexit32_after, __?LINE?__
    o32 sysexit
  bits 32
.sysexit32_target:
    int USER_DONE
.sysexit32_target_end:
  bits 64
.sysexit32_after:
    call settle_64
    check_eq [event.cs], SYSENTER_CODE32 + 3
    check_eq [event.ss], SYSENTER_DATA3 + 3
    check_eq [event.sp], USER_STACK_TOP
    mov rcx, 0x800000000000
    mov rdx, long_target
    expect V_GP, 0, o64 sysexit
    mov rdx, rcx
    xor ecx, ecx
    expect V_GP, 0, o64 sysexit
    user_expect V_GP, 0, o64 sysexit
    finish

long_target:
    int USER_DONE
.end:
    jmp long_target
