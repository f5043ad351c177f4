; VIA's processor with VT-x that firmware has locked off.
;! cpu=via-vt,virtualization=locked-off
%include "guest.inc"
%include "vmx.inc"
%include "vmx-firmware.inc"

main:
    go_long
  use 64
    group "VIA: locked off"
    ; covers: virtualization=locked-off
    firmware_has_locked_vmx_off
    finish
