; No IDT at all: the exception, the double fault and then shutdown (SDM volume 3, "Interrupt 8—Double Fault Exception").
;! end=triple-fault
%include "guest.inc"

main:
    group "no handlers"
    lidt [.nothing]
    ud2
    fail
    finish
.nothing:
    dw 0
    dd 0
