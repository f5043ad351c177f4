; VMX: injection, interrupts and NMIs with their windows, activity states, monitor trap flag, preemption timer, pending
; debug exceptions: SDM volume 3, "Event Injection", "Other Causes of VM Exits", "Non-Root Operation".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

; IRQ 0 is pending at the controllers, unmasked.
%macro pend_interrupt 0
    call raise_timer_64
%endmacro
; Takes it off again.
%macro drop_interrupt 0
    call drop_timer_64
%endmacro

; An NMI to ourselves.
%macro send_nmi 0
    mov r11d, LOCAL_APIC
    mov dword [r11 + 0x310], 0
    mov dword [r11 + 0x300], 0x400
%endmacro

main:
    call initialize_pic
    mov dword [LOCAL_APIC + 0xf0], 0x1ff
    mov dword [LOCAL_APIC + 0x350], 0x700       ; the 8259s by LINT0
    go_long
  use 64
    call set_up_vmx

    group "VMX events: injection of exceptions and software interrupts"
    ; The handlers of the guest's IDT are the host's: `armed` makes them come back.
%macro injects 4                ; information, error code field, vector, error code seen
    mov dword [event.vector], NONE
    mov qword [armed.resume], %%come
    mov qword [armed.sp], GUEST_STACK_TOP
    vmw ENTRY_INTERRUPTION_INFORMATION, %1
    vmw ENTRY_EXCEPTION_ERROR_CODE, %2
    vmw GUEST_RIP, %%never
    vmw GUEST_RSP, GUEST_STACK_TOP
    vmw GUEST_RFLAGS, 2
    call run_guest
    jmp %%over
%%never:
    nop
    nop
    hlt
%%come:
    vmcall
%%over:
    check_field EXIT_REASON, R_VMCALL
    mov dword [armed.resume], 0
    check_d [event.vector], %3
    check_d [event.error], %4
    check_field ENTRY_INTERRUPTION_INFORMATION, (%1) & ~EVENT_VALID
%endmacro
%macro check_event_ip 1
    mov r14, [event.ip]
    mov r15, %1
    check_eq r14, r15
%endmacro
    injects EVENT_VALID | EVENT_EXCEPTION | V_UD, 0, V_UD, 0
    vmr rbx, GUEST_RIP
    injects EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_GP, 0x1230, V_GP, 0x1230
    mov r14, [event.flags]
    and r14d, FLAG_RF
    check_eq r14, FLAG_RF
    mov rax, 0x7777
    mov cr2, rax
    injects EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_PF, 2, V_PF, 2
    check_eq qword [event.cr2], 0x7777
    vmw EXCEPTION_BITMAP, -1                ; what is injected does not leave
    injects EVENT_VALID | EVENT_EXCEPTION | V_DE, 0, V_DE, 0
    vmw EXCEPTION_BITMAP, 0
    vmw ENTRY_INSTRUCTION_LENGTH, 2
    injects EVENT_VALID | EVENT_SOFTWARE | 0x85, 0, 0x85, 0
    mov rbx, [event.ip]
    vmr rcx, GUEST_RIP
    ; covers: MISC 30
    vmw ENTRY_INSTRUCTION_LENGTH, 0         ; points at the instruction itself
    injects EVENT_VALID | EVENT_SOFT_EXCEPTION | V_BP, 0, V_BP, 0
    vmw ENTRY_INSTRUCTION_LENGTH, 1
    injects EVENT_VALID | EVENT_PRIVILEGED | V_DB, 0, V_DB, 0
    injects EVENT_VALID | EVENT_NMI | 2, 0, V_NMI, 0
    check_field GUEST_INTERRUPTIBILITY, 8   ; NMIs are blocked
    vmw GUEST_INTERRUPTIBILITY, 0

    group "VMX events: exits while an injected event is delivered"
    fresh_guest
    vmw GUEST_IDTR_LIMIT, 0x10
    vmw EXCEPTION_BITMAP, 1 << V_GP
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_SS
    vmw ENTRY_EXCEPTION_ERROR_CODE, 0x450
    run_guest_at main
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_ERROR_CODE, V_SS * 8 + 3
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_SS
    check_field IDT_VECTORING_ERROR_CODE, 0x450
    check_field GUEST_RIP, main
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_SOFTWARE | 0x90
    vmw ENTRY_INSTRUCTION_LENGTH, 7
    run_guest_at main
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_SOFTWARE | 0x90
    check_field EXIT_INSTRUCTION_LENGTH, 7
    check_field EXIT_INTERRUPTION_ERROR_CODE, 0x90 * 8 + 2
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | 0x20
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    run_guest_at main
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | 0x20
    check_field EXIT_INTERRUPTION_ERROR_CODE, 0x20 * 8 + 3

    group "VMX events: external interrupts"
    fresh_guest
    enable PIN, PIN_EXTERNAL
    executed nop
    pend_interrupt
    guest_exits R_EXTERNAL, nop             ; whatever IF says
    check_field EXIT_INTERRUPTION_INFORMATION, 0
    check_field EXIT_INSTRUCTION_LENGTH, 0
    guest_exits R_EXTERNAL, nop             ; still there
    enable EXIT, EXIT_ACKNOWLEDGE
    jmp .over_ack
.at_ack:
    nop
    vmcall
.over_ack:
    run_guest_at .at_ack
    check_field EXIT_REASON, R_EXTERNAL
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | PIC_VECTOR
    check_field GUEST_RIP, .at_ack
    guest_exits R_VMCALL, nop               ; taken
    drop_interrupt
    pend_interrupt
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    vmw GUEST_INTERRUPTIBILITY, 1           ; STI blocks it for one instruction
    jmp .over_sti
.at_sti:
    nop
.after_sti:
    nop
    vmcall
.over_sti:
    run_guest_at .at_sti
    check_field EXIT_REASON, R_EXTERNAL
    check_field GUEST_RIP, .after_sti
    check_field GUEST_INTERRUPTIBILITY, 0
    drop_interrupt

    group "VMX events: interrupts that stay in the guest"
    fresh_guest
    pend_interrupt
    guest_exits R_VMCALL, nop               ; IF is 0
    mov dword [event.vector], NONE
    mov qword [armed.resume], .in_guest
    mov qword [armed.sp], GUEST_STACK_TOP
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    jmp .over_guest
.at_guest:
    nop
    nop
    cli
    hlt
.in_guest:
    vmcall
.over_guest:
    run_guest_at .at_guest
    mov dword [armed.resume], 0
    check_field EXIT_REASON, R_VMCALL
    check_d [event.vector], PIC_VECTOR
    drop_interrupt

    group "VMX events: interrupt window"
    fresh_guest
    enable PRIMARY, PRI_INTERRUPT_WINDOW
    guest_exits R_VMCALL, nop               ; IF is 0
    ; covers: staying instead of exit 7
    jmp .over_window
.at_window:
    nop
    sti
    nop
.after_window:
    nop
    vmcall
.over_window:
    run_guest_at .at_window
    check_field EXIT_REASON, R_INTERRUPT_WINDOW
    check_field GUEST_RIP, .after_window
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    guest_exits R_INTERRUPT_WINDOW, nop     ; before the first instruction
    vmw GUEST_ACTIVITY, 1
    guest_exits R_INTERRUPT_WINDOW, nop     ; HLT ends

    group "VMX events: HLT"
    ; covers: MISC 6
    fresh_guest
    enable PIN, PIN_EXTERNAL
    vmw GUEST_ACTIVITY, 1
    pend_interrupt
    run_guest_at main
    check_field EXIT_REASON, R_EXTERNAL
    check_field GUEST_ACTIVITY, 1
    drop_interrupt
    vmw GUEST_ACTIVITY, 0
    call start_timer_64
    jmp .over_hlt
.at_hlt:
    hlt
.after_hlt:
    vmcall
.over_hlt:
    run_guest_at .at_hlt
    check_field EXIT_REASON, R_EXTERNAL
    check_field GUEST_RIP, .after_hlt
    check_field GUEST_ACTIVITY, 1
    drop_interrupt
    vmw GUEST_ACTIVITY, 1                   ; entered so: it waits, too
    call start_timer_64
    run_guest_at .after_hlt
    check_field EXIT_REASON, R_EXTERNAL
    check_field GUEST_RIP, .after_hlt
    check_field GUEST_ACTIVITY, 1
    drop_interrupt

    group "VMX events: NMIs"
    fresh_guest
    enable PIN, PIN_NMI
    jmp .over_nmi
.at_nmi:
    send_nmi
    mov ecx, 10
    loop $
    vmcall
.over_nmi:
    run_guest_at .at_nmi
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_NMI | 2
    check_field GUEST_INTERRUPTIBILITY, 0
    ; NMIs are blocked in the host now; IRET ends that.
    send_nmi
    mov ecx, 10
    loop $
    mov dword [event.vector], NONE
    mov qword [armed.resume], .host_nmi
    mov [armed.sp], rsp
    mov rbx, rsp
    mov eax, ss
    push rax
    push rbx
    push 2
    mov eax, cs
    push rax
    push .not_yet
    iretq
.not_yet:
    nop
    nop
.host_nmi:
    mov dword [armed.resume], 0
    check_d [event.vector], V_NMI
    ; End of that NMI.
    mov rbx, rsp
    mov eax, ss
    push rax
    push rbx
    push 2
    mov eax, cs
    push rax
    push .unblocked
    iretq
.unblocked:
    fresh_guest
    mov dword [event.vector], NONE
    mov qword [armed.resume], .guest_nmi
    mov qword [armed.sp], GUEST_STACK_TOP
    jmp .over_own_nmi
.guest_nmi:
    vmcall
.over_own_nmi:
    run_guest_at .at_nmi                    ; without NMI exiting
    mov dword [armed.resume], 0
    check_field EXIT_REASON, R_VMCALL
    check_d [event.vector], V_NMI
    check_field GUEST_INTERRUPTIBILITY, 8
    ; The NMI is blocked in the host as well: IRET.
    mov rbx, rsp
    mov eax, ss
    push rax
    push rbx
    push 2
    mov eax, cs
    push rax
    push .unblocked2
    iretq
.unblocked2:

    group "VMX events: virtual NMIs and their window"
    fresh_guest
    enable PIN, PIN_NMI
    enable PIN, PIN_VIRTUAL_NMI
    enable PRIMARY, PRI_NMI_WINDOW
    guest_exits R_NMI_WINDOW, nop
    vmw GUEST_INTERRUPTIBILITY, 8
    guest_exits R_VMCALL, nop               ; NMIs are blocked
    ; covers: staying instead of exit 8
    check_field GUEST_INTERRUPTIBILITY, 8
    jmp .over_iret
.at_iret:
    mov rbx, rsp
    mov eax, ss
    push rax
    push rbx
    push 2
    mov eax, cs
    push rax
    push .after_iret
    iretq
.after_iret:
    nop
    vmcall
.over_iret:
    run_guest_at .at_iret
    check_field EXIT_REASON, R_NMI_WINDOW
    check_field GUEST_RIP, .after_iret
    check_field GUEST_INTERRUPTIBILITY, 0
    vmw GUEST_INTERRUPTIBILITY, 2           ; MOV SS
    jmp .over_ss
.at_ss:
    nop
.after_ss:
    nop
.over_ss:
    run_guest_at .at_ss
    check_field EXIT_REASON, R_NMI_WINDOW
    check_field GUEST_RIP, .after_ss
    disable PRIMARY, PRI_NMI_WINDOW
    vmw GUEST_INTERRUPTIBILITY, 8
    run_guest_at .at_nmi                    ; virtual blocking does not hold a real one back
    check_field EXIT_REASON, R_EXCEPTION
    check_field GUEST_INTERRUPTIBILITY, 8
    ; IRET that faults has unblocked already, and the exit says so.
    vmw EXCEPTION_BITMAP, 1 << V_GP
    vmw GUEST_GDTR_LIMIT, GDT_END - 1
    jmp .over_bad_iret
.at_bad_iret:
    push 0
    push rsp
    push 2
    push 0x7ff8
    push .after_iret
.bad_iret:
    iretq
.over_bad_iret:
    run_guest_at .at_bad_iret
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_GP | 0x1000
    check_field GUEST_RIP, .bad_iret
    check_field GUEST_INTERRUPTIBILITY, 0
    ; The host again: the NMI that exited has blocked.
    mov rbx, rsp
    mov eax, ss
    push rax
    push rbx
    push 2
    mov eax, cs
    push rax
    push .unblocked3
    iretq
.unblocked3:

    group "VMX events: monitor trap flag"
    fresh_guest
    jmp .over_trap
.at_trap:
    mov eax, 1
.after_trap:
    mov eax, 2
    vmcall
.over_trap:
    ; covers: staying instead of exit 37
    run_guest_at .at_trap
    check_field EXIT_REASON, R_VMCALL
    enable PRIMARY, PRI_MTF
    run_guest_at .at_trap
    check_field EXIT_REASON, R_MTF
    check_field GUEST_RIP, .after_trap
    check_eq rax, 1
    jmp .over_trap_fault
.at_trap_fault:
    ud2
.over_trap_fault:
    run_guest_at .at_trap_fault             ; the exception is delivered, then the trap comes
    check_field EXIT_REASON, R_MTF
    vmr rax, GUEST_RIP
    cmp eax, .at_trap_fault
    check_true ne
    check_field GUEST_RSP, GUEST_STACK_TOP - 0x28
    jmp .over_trap_exit
.at_trap_exit:
    cpuid
.over_trap_exit:
    run_guest_at .at_trap_exit              ; other exits come first
    check_field EXIT_REASON, R_CPUID
    fresh_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_OTHER
    run_guest_at .at_trap
    check_field EXIT_REASON, R_MTF
    check_field GUEST_RIP, .at_trap

    group "VMX events: preemption timer"
    ; covers: MISC 4:0
    fresh_guest
    enable PIN, PIN_TIMER
    vmw PREEMPTION_TIMER_VALUE, 0
    run_guest_at .at_trap
    check_field EXIT_REASON, R_TIMER
    check_field GUEST_RIP, .at_trap
    vmw PREEMPTION_TIMER_VALUE, 100
    guest_exits R_VMCALL, nop               ; it has not expired
    ; covers: staying instead of exit 52
    check_field PREEMPTION_TIMER_VALUE, 100
    jmp .over_endless
.endless:
    inc rbx
    jmp .endless
.over_endless:
    xor ebx, ebx
    rdtsc
    mov ecx, eax
    run_guest_at .endless
    rdtsc
    sub eax, ecx
    check_field EXIT_REASON, R_TIMER
    cmp eax, 99 << 5
    check_true ae
    cmp rbx, 50
    check_true a
    enable EXIT, EXIT_SAVE_TIMER
    vmw PREEMPTION_TIMER_VALUE, 1000000
    guest_exits R_VMCALL, nop
    vmr rax, PREEMPTION_TIMER_VALUE
    cmp eax, 1000000
    check_true b
    cmp eax, 990000
    check_true a
    vmw PREEMPTION_TIMER_VALUE, 1000
    vmw GUEST_ACTIVITY, 1                   ; it counts in HLT, too
    run_guest_at .endless
    check_field EXIT_REASON, R_TIMER
    check_field PREEMPTION_TIMER_VALUE, 0

    group "VMX events: pending debug exceptions"
    fresh_guest
    mov rax, 0xffff0ff0
    mov dr6, rax
    vmw EXCEPTION_BITMAP, 1 << V_DB
    vmw GUEST_PENDING_DEBUG_EXCEPTIONS, 0x1002
    run_guest_at .at_trap
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_DB
    check_field EXIT_QUALIFICATION, 2
    check_field GUEST_RIP, .at_trap
    vmw EXCEPTION_BITMAP, 0
    vmw GUEST_PENDING_DEBUG_EXCEPTIONS, 0x4000
    mov dword [event.vector], NONE
    mov qword [armed.resume], .guest_nmi
    mov qword [armed.sp], GUEST_STACK_TOP
    run_guest_at .at_trap
    mov dword [armed.resume], 0
    check_d [event.vector], V_DB
    mov rax, dr6
    mov r14d, 0xffff4ff0
    check_eq rax, r14
    mov r14, [event.ip]
    check_eq r14, .at_trap

    group "VMX events: shutdown and wait-for-SIPI"
    ; covers: MISC 7
    fresh_guest
    vmw GUEST_ACTIVITY, 2
    enable PIN, PIN_NMI
    enable PIN, PIN_TIMER
    vmw PREEMPTION_TIMER_VALUE, 1000
    enable PIN, PIN_EXTERNAL
    pend_interrupt                          ; shutdown does not let it in
    run_guest_at .at_trap
    check_field EXIT_REASON, R_TIMER
    check_field GUEST_ACTIVITY, 2
    drop_interrupt
    finish

; As raise_timer, in 64-bit mode.
start_timer_64:
    mov al, 0x20
    out 0x20, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x30
    out 0x43, al
    mov al, 200
    out 0x40, al
    xor eax, eax
    out 0x40, al
    ret
raise_timer_64:
    call start_timer_64
    mov al, 0x0a
    out 0x20, al
.wait:
    in al, 0x20
    test al, 1
    jz .wait
    ret
drop_timer_64:
    mov al, 0x30                ; output low
    out 0x43, al
    mov al, 0x11                ; a request that nobody has taken is forgotten by initialization
    out 0x20, al
    mov al, PIC_VECTOR
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xff
    out 0x21, al
    ret
