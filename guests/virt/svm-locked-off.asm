; SVM that firmware has locked off, as in many machines in the field: AMD APM volume 2, "VM_CR MSR", "Enabling SVM".
;! cpu=epyc,virtualization=locked-off
%include "guest.inc"
%include "svm.inc"

main:
    go_long
  use 64
    group "SVM: locked off"
    ; covers: virtualization=locked-off
    mov eax, 0x80000001             ; CPUID goes on to tell of it
    cpuid
    bt ecx, 2
    check_true c
    check_msr MSR_VM_CR, 0, VM_CR_LOCK | VM_CR_SVMDIS
    write_msr MSR_VM_CR, 0, 0       ; lock and disable stay
    check_msr MSR_VM_CR, 0, VM_CR_LOCK | VM_CR_SVMDIS
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SVME
    expect V_GP, 0, wrmsr
    mov eax, VMCB
    expect V_UD, 0, vmrun
    expect V_UD, 0, stgi
    finish
