; SVM: a triple fault of a guest whose hypervisor does not intercept shutdown is the machine's own: AMD APM volume 2,
; "Shutdown Intercept".
;! cpu=epyc
;! end=triple-fault
%include "guest.inc"
%include "svm.inc"

main:
    go_long
  use 64
    call set_up_svm
    group "SVM: shutdown"
    own_table                   ; no gate at all
    admit I_SHUTDOWN
    ; covers: staying instead of SHUTDOWN
    guest_exits EXIT_VMMCALL, ud2
    finish
