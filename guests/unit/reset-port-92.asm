; Port 0x92, bit 0: fast reset of the processor.
;! end=reset
%include "guest.inc"

main:
    group "system control port A"
    in al, 0x92
    or al, 1
    out 0x92, al
    mov ecx, 1000
.wait:
    loop .wait
    fail
    finish
