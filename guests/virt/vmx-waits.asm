; VMX: exits of MONITOR and MWAIT, on a processor that has them: SDM volume 3, "Instructions That Cause VM Exits Conditionally".
;! cpu=xeon,+monitor
%include "guest.inc"
%include "vmx.inc"

main:
    go_long
  use 64
    call set_up_vmx
    mov eax, VMX_FREE
    xor ecx, ecx
    xor edx, edx

    group "VMX waits: MONITOR"
    executed monitor
    enable PRIMARY, PRI_MONITOR
    intercepted_with R_MONITOR, 0, monitor
    executed mwait
    disable PRIMARY, PRI_MONITOR
    executed monitor

    group "VMX waits: MWAIT"
    executed mwait
    enable PRIMARY, PRI_MWAIT
    intercepted_with R_MWAIT, 0, mwait
    executed monitor
    disable PRIMARY, PRI_MWAIT
    executed mwait
    finish
