; VMX: INIT signals and start-up IPIs: blocked in root operation, exits of guests: SDM volume 3, "Other Causes of VM Exits",
; "Activity State", "Changes to Instruction Behavior in VMX Operation". A start-up IPI comes whenever the processor waits for it.
;! cpu=xeon
;! start-up=0x9a
%include "guest.inc"
%include "vmx.inc"

R_INIT          equ 3
R_SIPI          equ 4
WAIT_FOR_SIPI   equ 3
SPURIOUS        equ 0x1fa

; To ourselves: INIT, or a start-up IPI.
%macro send_signal 1
    mov r11d, LOCAL_APIC
    mov dword [r11 + 0x310], 0
    mov dword [r11 + 0x300], %1
    jmp short %%sent
%%sent:
    nop
%endmacro
%define INIT_SIGNAL 0x4500
%define START_UP    0x4611

main:
    mov dword [LOCAL_APIC + 0xf0], SPURIOUS
    go_long
  use 64
    call set_up_vmx

    group "VMX signals: INIT"
    guest_exits R_VMCALL, nop               ; none is pending
    send_signal INIT_SIGNAL                 ; blocked in root operation
    mov ebx, 7
    check_eq rbx, 7
    jmp .over
.never:
    vmcall
.over:
    run_guest_at .never
    check_field EXIT_REASON, R_INIT
    check_field EXIT_QUALIFICATION, 0
    check_field EXIT_INSTRUCTION_LENGTH, 0
    check_field GUEST_RIP, .never
    guest_exits R_VMCALL, nop               ; it is no longer pending
    guest_exits R_INIT, send_signal INIT_SIGNAL
    mov r11d, LOCAL_APIC                    ; nothing was initialized
    check_d [r11 + 0xf0], SPURIOUS
    mov rax, cr4
    bt eax, 13
    check_true c

    group "VMX signals: start-up IPIs"
    ; covers: MISC 8, staying instead of exit 4
    send_signal START_UP                    ; without effect, in root operation and in a guest that does not wait
    guest_exits R_VMCALL, nop
    guest_exits R_VMCALL, send_signal START_UP
    fresh_guest
    vmw GUEST_ACTIVITY, WAIT_FOR_SIPI
    run_guest_at .never
    check_field EXIT_REASON, R_SIPI
    check_field EXIT_QUALIFICATION, 0x9a
    check_field GUEST_RIP, .never
    check_field GUEST_ACTIVITY, WAIT_FOR_SIPI
    send_signal INIT_SIGNAL                 ; blocked while a guest waits for a start-up IPI, too
    run_guest_at .never
    check_field EXIT_REASON, R_SIPI
    vmw GUEST_ACTIVITY, 0
    run_guest_at .never
    check_field EXIT_REASON, R_INIT
    vmw GUEST_ACTIVITY, 0
    run_guest_at .never
    check_field EXIT_REASON, R_VMCALL

    group "VMX signals: wait-for-SIPI"
    fresh_guest
    vmw GUEST_ACTIVITY, WAIT_FOR_SIPI
    enable PIN, PIN_EXTERNAL
    enable PIN, PIN_NMI
    enable PIN, PIN_TIMER
    vmw PREEMPTION_TIMER_VALUE, 0           ; of no effect there
    run_guest_at .never
    check_field EXIT_REASON, R_SIPI
    finish
