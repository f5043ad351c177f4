; VMX that firmware has locked off, as in many machines in the field: SDM volume 3, "Enabling and Entering VMX Operation".
;! cpu=xeon,virtualization=locked-off
%include "guest.inc"
%include "vmx.inc"
%include "vmx-firmware.inc"

main:
    go_long
  use 64
    group "VMX: locked off"
    ; covers: virtualization=locked-off
    firmware_has_locked_vmx_off
    finish
