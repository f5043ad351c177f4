; SVM as firmware leaves it on: AMD APM volume 2, "VM_CR MSR", "Enabling SVM".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

main:
    go_long
  use 64
    group "SVM: switched on and locked"
    ; covers: virtualization=on
    check_msr MSR_VM_CR, 0, VM_CR_LOCK
    write_msr MSR_VM_CR, 0, VM_CR_SVMDIS    ; locked: without effect
    check_msr MSR_VM_CR, 0, VM_CR_LOCK
    call set_up_svm
    guest_exits EXIT_VMMCALL, nop
    finish
