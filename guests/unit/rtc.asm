; MC146818 clock: date, update cycle, periodic, update-ended and alarm interrupts on IRQ 8: MC146818 datasheet.
%include "guest.inc"

%macro read_rtc 1
    mov al, %1
    out 0x70, al
    in al, 0x71
    movzx eax, al
%endmacro
%macro write_rtc 2
    mov al, %1
    out 0x70, al
    mov al, %2
    out 0x71, al
%endmacro
IRQ8        equ PIC_VECTOR + 8

%macro end_of_irq8 0
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
%endmacro

main:
    call initialize_pic
    mov al, 0xfb
    out 0x21, al
    mov al, 0xfe
    out 0xa1, al

    group "registers"
    write_rtc 10, 0x26
    read_rtc 10
    and eax, 0x7f
    check_eq eax, 0x26
    read_rtc 13
    check_eq eax, 0x80                          ; battery is good
    write_rtc 11, 6                             ; 24 hours, binary
    read_rtc 11
    check_eq eax, 6
    write_rtc 0x40, 0x5a                        ; memory
    read_rtc 0x40
    check_eq eax, 0x5a

    group "time goes on"
    write_rtc 11, 0x86                          ; SET: no updates
    write_rtc 0, 58
    write_rtc 2, 59
    write_rtc 4, 23
    write_rtc 6, 5
    write_rtc 7, 29
    write_rtc 8, 2
    write_rtc 9, 24
    write_rtc 11, 6
    read_rtc 12
    write_rtc 11, 0x16                          ; interrupt after each update
    expect_irq IRQ8
    read_rtc 12
    and eax, 0x90
    check_eq eax, 0x90
    read_rtc 12
    and eax, 0x80
    check_eq eax, 0                             ; reading clears
    end_of_irq8
    read_rtc 0
    check_eq eax, 59
    expect_irq IRQ8
    read_rtc 12
    end_of_irq8
    read_rtc 0
    check_eq eax, 0
    read_rtc 2
    check_eq eax, 0
    read_rtc 4
    check_eq eax, 0
    read_rtc 7
    check_eq eax, 1                             ; the day after 29 February 2024
    read_rtc 8
    check_eq eax, 3
    read_rtc 9
    check_eq eax, 24
    write_rtc 11, 2                             ; BCD, 24 hours
    write_rtc 11, 0x82
    write_rtc 0, 0x37
    write_rtc 4, 0x21
    write_rtc 11, 2
    read_rtc 0
    check_eq eax, 0x37
    read_rtc 4
    check_eq eax, 0x21

    group "periodic interrupt"
    write_rtc 10, 0x26                          ; 1024 Hz
    set_handler IRQ8, count
    mov dword [ticks], 0
    read_rtc 12
    write_rtc 11, 0x42
    sti
.wait:
    cmp dword [ticks], 8
    jb .wait
    cli
    write_rtc 11, 2
    read_rtc 12
    set_handler IRQ8, stub_40

    group "alarm"
    write_rtc 11, 0x86
    write_rtc 0, 10
    write_rtc 1, 12
    write_rtc 3, 0xff                           ; any minute, any hour
    write_rtc 5, 0xff
    write_rtc 11, 0x26
    expect_irq IRQ8
    read_rtc 12
    and eax, 0xa0
    check_eq eax, 0xa0
    end_of_irq8
    read_rtc 0
    check_eq eax, 12
    write_rtc 11, 2
    finish

count:
    push eax
    inc dword [ticks]
    mov al, 12
    out 0x70, al
    in al, 0x71
    end_of_irq8
    pop eax
    iretd
ticks:  dd 0
