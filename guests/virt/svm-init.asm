; SVM: an INIT that its hypervisor does not intercept initializes the processor in the midst of the guest, SVM off: AMD APM
; volume 2, "INIT Intercept", "Processor Initialization State". Nothing is at the reset vector: #UD comes there, whose real-mode vector leads back here.
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

INIT_SIGNAL         equ 0x4500

main:
    mov dword [LOCAL_APIC + 0xf0], 0x1ff
    go_long
  use 64
    call set_up_svm
    group "SVM: INIT without an intercept"
    mov word [V_UD * 4], .started - LOAD_ADDRESS
    mov word [V_UD * 4 + 2], REAL_SEGMENT
    clgi
    mov r11d, LOCAL_APIC
    mov dword [r11 + 0x310], 0
    mov dword [r11 + 0x300], INIT_SIGNAL    ; waits for GIF, which VMRUN sets
    run_guest_at .never
    check_eq rax, -1                        ; nobody comes back
    finish
.never:
    vmmcall
    jmp .never

use 16
.started:
    pop ebx                                 ; IP and CS of the reset vector
    mov ax, REAL_SEGMENT
    mov ds, ax
    xor ax, ax
    mov ss, ax
    mov esp, STACK_TOP
    check_eq ebx, 0xf000fff0
    mov ecx, MSR_EFER
    rdmsr
    and eax, EFER_SVME
    check_eq eax, 0
    mov eax, cr0
    and eax, CR0_PE | CR0_PG
    check_eq eax, 0
    go_protected
  use 32
    mov ecx, MSR_VM_HSAVE_PA                ; INIT leaves it alone
    rdmsr
    check_eq eax, HOST_SAVE
    finish
