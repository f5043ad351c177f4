; A disk whose guest follows its first sector: brings it to where a loader by the multiboot standard would, and goes there.
; Defined from outside: GUEST, the path of the guest.
org 0x7c00
bits 16
LOAD_ADDRESS    equ 0x10000
SECTORS         equ (guest_end - guest_start + 511) / 512
SECTORS_A_TRACK equ 18

start:
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    mov [drive], dl
    mov ax, LOAD_ADDRESS >> 4
    mov es, ax
    mov cx, SECTORS
    mov word [sector], 1
.next:
    push cx
    mov ax, [sector]
    xor dx, dx
    mov bx, SECTORS_A_TRACK
    div bx
    mov cl, dl
    inc cl
    xor dx, dx
    mov bx, 2
    div bx
    mov ch, al
    mov dh, dl
    mov dl, [drive]
    xor bx, bx
    mov ax, 0x0201
    int 0x13
    jc .next_sector
    mov ax, es
    add ax, 512 >> 4
    mov es, ax
    inc word [sector]
    pop cx
    loop .next
    in al, 0x92
    or al, 2
    and al, 0xfe
    out 0x92, al
    lgdt [table_pointer]
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    jmp 8:protected
.next_sector:
    pop cx
    jmp .next

bits 32
protected:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    ; The entry point is the last word of the multiboot header, which stands at the image's start.
    jmp [LOAD_ADDRESS + 28]

sector: dw 0
drive:  db 0
align 8
table:
    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
table_pointer:
    dw $ - table - 1
    dd table
    times 510 - ($ - $$) db 0
    dw 0xaa55
guest_start:
    incbin GUEST
guest_end:
    times 1474560 - ($ - $$) db 0
