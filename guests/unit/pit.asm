; 8254: modes of counter 0, latching, read-back, counter 2 at port 0x61: 8254 datasheet.
%include "guest.inc"

main:
    call initialize_pic
    mov al, 0xfe
    out 0x21, al

    group "interrupt on terminal count"
    mov ecx, 2000
    call start_pit
    mov al, 0xe2                                ; read-back: status of counter 0
    out 0x43, al
    in al, 0x40
    and al, 0xbf                                ; null count may still be set
    movzx eax, al
    check_eq eax, 0x30
    expect_irq PIC_VECTOR
    mov al, 0x20
    out 0x20, al
    mov al, 0xe2
    out 0x43, al
    in al, 0x40
    movzx eax, al
    check_eq eax, 0xb0                          ; output high
    mov ecx, 5000
    call start_pit
    mov al, 0                                   ; latch
    out 0x43, al
    in al, 0x40
    mov bl, al
    in al, 0x40
    mov bh, al
    movzx ebx, bx
    cmp ebx, 5001
    check_true b
    mov ecx, 1000
.spin:
    loop .spin
    mov al, 0
    out 0x43, al
    in al, 0x40
    mov dl, al
    mov ecx, 1000
.spin2:
    loop .spin2
    in al, 0x40                                 ; the other byte of the same latch
    mov dh, al
    movzx edx, dx
    cmp edx, ebx
    check_true b

    group "rate generator"
    set_handler PIC_VECTOR, count
    mov dword [ticks], 0
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9                                ; 1193: 1 ms
    out 0x40, al
    mov al, 4
    out 0x40, al
    sti
.wait:
    cmp dword [ticks], 10
    jb .wait
    cli
    mov al, 0xe2
    out 0x43, al
    in al, 0x40
    and al, 0x3f
    movzx eax, al
    check_eq eax, 0x34
    mov ecx, 200                                ; its count never leaves 1 … 1193
.range:
    mov al, 0
    out 0x43, al
    in al, 0x40
    mov bl, al
    in al, 0x40
    mov bh, al
    movzx ebx, bx
    dec ebx
    cmp ebx, 1193
    jae .out_of_range
    loop .range
    jmp .in_range
.out_of_range:
    fail
.in_range:

    group "least significant byte alone, and BCD"
    mov al, 0x14
    out 0x43, al
    mov al, 100
    out 0x40, al
    mov al, 0xc2                                ; count and status
    out 0x43, al
    in al, 0x40
    and al, 0x3f
    movzx eax, al
    check_eq eax, 0x14
    in al, 0x40
    movzx eax, al
    cmp eax, 101
    check_true b
    mov al, 0x35                                ; BCD
    out 0x43, al
    mov al, 0x00
    out 0x40, al
    mov al, 0x10
    out 0x40, al                                ; 1000
    mov ecx, 100
.digits:
    mov al, 0
    out 0x43, al
    in al, 0x40
    mov bl, al
    in al, 0x40
    mov bh, al
    mov al, bl
    and al, 15
    cmp al, 9
    ja .bad_digit
    cmp bx, 0x1000
    ja .bad_digit
    loop .digits
    jmp .digits_end
.bad_digit:
    fail
.digits_end:

    group "counter 2 and its gate"
    in al, 0x61
    and al, 0xfc
    out 0x61, al                                ; gate low, speaker off
    mov al, 0xb0
    out 0x43, al
    mov al, 0xe8
    out 0x42, al
    mov al, 3
    out 0x42, al                                ; 1000
    mov ecx, 5000
.stopped:
    loop .stopped
    in al, 0x61
    test al, 0x20
    check_true z
    or al, 1
    out 0x61, al                                ; gate high: it counts
    rdtsc
    mov esi, eax
    mov edi, edx
.counting:
    in al, 0x61
    test al, 0x20
    jnz .done
    rdtsc
    sub eax, esi
    sbb edx, edi
    jz .counting
    fail
.done:
    in al, 0x61
    and al, 0xfc
    out 0x61, al
    finish

count:
    push eax
    inc dword [ticks]
    mov al, 0x20
    out 0x20, al
    pop eax
    iretd
ticks:  dd 0
