; The I/O APIC: redirection, masks, edge and level triggering with remote IRR: 82093AA datasheet; the timer is at input
; 2, level-triggered interrupts come from the HPET.
%include "guest.inc"

HPET        equ 0xfed00000
PIT_INPUT   equ 2
HPET_INPUT  equ 20
LEVEL       equ 1 << 15
MASKED      equ 1 << 16
REMOTE_IRR  equ 1 << 14
ACTIVE_LOW  equ 1 << 13

%macro write_redirection 2      ; input, low word; changes EAX
    mov dword [IO_APIC], 0x11 + (%1) * 2
    mov dword [IO_APIC + 0x10], 0
    mov dword [IO_APIC], 0x10 + (%1) * 2
    mov dword [IO_APIC + 0x10], %2
%endmacro
%macro read_redirection 1       ; low word to EAX
    mov dword [IO_APIC], 0x10 + (%1) * 2
    mov eax, [IO_APIC + 0x10]
%endmacro
%macro expect_window 1.nolist
    expect_at %1, 0, window.open, call window
%endmacro
%macro expect_no_window 0.nolist
    expect_nothing call window
%endmacro
%macro end_of_interrupt 0
    mov dword [LOCAL_APIC + 0xb0], 0
%endmacro

main:
    call initialize_pic
    mov dword [LOCAL_APIC + 0xf0], 0x1ff

    group "registers"
    mov dword [IO_APIC], 1
    mov eax, [IO_APIC + 0x10]
    shr eax, 16
    and eax, 0xff
    check_eq eax, 23
    write_redirection 5, 0xa0ff | MASKED | REMOTE_IRR | (1 << 12)
    read_redirection 5
    check_eq eax, 0xa0ff | MASKED               ; two bits are read-only
    write_redirection 5, MASKED
    mov dword [IO_APIC], 0x1b
    mov dword [IO_APIC + 0x10], 0xff000000
    mov eax, [IO_APIC + 0x10]
    check_eq eax, 0xff000000
    mov dword [IO_APIC + 0x10], 0

    group "edge-triggered"
    write_redirection PIT_INPUT, 0x61
    call fire_pit
    expect_window 0x61
    expect_no_window
    call fire_pit                               ; before the end of the first: waits
    expect_no_window
    end_of_interrupt
    expect_window 0x61
    end_of_interrupt
    write_redirection PIT_INPUT, 0x62 | MASKED
    call fire_pit
    expect_no_window
    write_redirection PIT_INPUT, 0x62
    expect_no_window                            ; an edge under the mask is lost
    call fire_pit
    expect_window 0x62
    end_of_interrupt
    write_redirection PIT_INPUT, 0x900 | 0x63   ; lowest priority, logical: nobody's bit
    call fire_pit
    expect_no_window
    mov dword [LOCAL_APIC + 0xd0], 0x01000000
    mov dword [IO_APIC], 0x11 + PIT_INPUT * 2
    mov dword [IO_APIC + 0x10], 0x01000000
    call fire_pit
    expect_window 0x63
    end_of_interrupt
    write_redirection PIT_INPUT, MASKED
    ; NMI through the I/O APIC
    write_redirection PIT_INPUT, 0x400
    mov dword [armed.resume], .nmi
    mov [armed.sp], esp
    mov dword [event.vector], NONE
    call fire_pit
    hlt
.nmi:
    mov dword [armed.resume], 0
    check_eq [event.vector], V_NMI
    write_redirection PIT_INPUT, MASKED
    push dword 2
    push dword CODE32
    push dword .unblocked
    iretd
.unblocked:

    group "level-triggered"
    write_redirection HPET_INPUT, LEVEL | 0x71
    call raise_level
    expect_window 0x71
    read_redirection HPET_INPUT
    and eax, REMOTE_IRR
    check_eq eax, REMOTE_IRR
    expect_no_window                            ; once, until its end
    end_of_interrupt
    read_redirection HPET_INPUT
    and eax, REMOTE_IRR
    check_eq eax, REMOTE_IRR                    ; the line is still active: again
    expect_window 0x71
    mov dword [HPET + 0x20], 1                  ; the device is satisfied
    end_of_interrupt
    read_redirection HPET_INPUT
    and eax, REMOTE_IRR
    check_eq eax, 0
    expect_no_window
    write_redirection HPET_INPUT, LEVEL | MASKED | 0x72
    call raise_level
    expect_no_window
    write_redirection HPET_INPUT, LEVEL | 0x72  ; unmasked while the line is active
    expect_window 0x72
    mov dword [HPET + 0x20], 1
    end_of_interrupt
    expect_no_window
    finish

window:
    sti
    nop
.open:
    nop
    cli
    ret

; One edge of the 8254, and some time.
fire_pit:
    mov ecx, 50
    call start_pit
.wait:
    mov al, 0xe2                                ; status of counter 0
    out 0x43, al
    in al, 0x40
    test al, 0x80
    jz .wait
    ret

; HPET comparator 0, level-triggered at HPET_INPUT, has been reached.
raise_level:
    mov dword [HPET + 0x10], 0
    mov dword [HPET + 0x20], 1
    mov dword [HPET + 0xf0], 0
    mov dword [HPET + 0xf4], 0
    mov dword [HPET + 0x100], 0x6 | (HPET_INPUT << 9)
    mov dword [HPET + 0x108], 1000
    mov dword [HPET + 0x10c], 0
    mov dword [HPET + 0x10], 1
.wait:
    test dword [HPET + 0x20], 1
    jz .wait
    ret
