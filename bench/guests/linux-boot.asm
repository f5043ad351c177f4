; A hard disk's first sector that loads a Linux kernel and what belongs to it, and enters the kernel's real-mode code: the
; Linux/x86 boot protocol. Whoever makes the disk fills in `pieces`, and the fields of the kernel's header.
org 0x7c00
bits 16
BUFFER          equ 0x10000         ; below it nothing that the BIOS or we need
CHUNK           equ 64              ; sectors a call of the BIOS
SETUP_SEGMENT   equ 0x9000

start:
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    mov [drive], dl
    in al, 0x92
    or al, 2
    and al, 0xfe
    out 0x92, al
    mov si, pieces
.piece:
    cmp dword [si + 4], 0           ; no sectors: the end
    je .enter
.chunk:
    mov eax, [si + 4]
    cmp eax, CHUNK
    jbe .last
    mov eax, CHUNK
.last:
    mov [packet.sectors], ax
    mov ebx, [si]
    mov [packet.first], ebx
    add [si], eax
    sub [si + 4], eax
    push si
    push ax
    mov ah, 0x42
    mov dl, [drive]
    mov si, packet
    sti
    int 0x13
    cli
    jc .failed
    pop cx
    pop si
    call large_segments
    movzx ecx, cx
    shl ecx, 9 - 2
    push si
    mov edi, [si + 8]
    mov esi, BUFFER
    a32 rep movsd
    pop si
    mov [ss:si + 8], edi
    xor ax, ax
    mov ds, ax
    cmp dword [si + 4], 0
    jne .chunk
    add si, 12
    jmp .piece
.enter:
    mov ax, SETUP_SEGMENT
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov sp, 0xe000
    jmp SETUP_SEGMENT + 0x20:0
.failed:
    hlt
    jmp .failed

; DS and ES based at 0 with limits of 4 GiB; the BIOS may have undone that. Changes EAX, BX.
large_segments:
    lgdt [table_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov ds, bx
    mov es, bx
    and al, 0xfe
    mov cr0, eax
    xor bx, bx
    mov ds, bx
    mov es, bx
    ret

packet:
    db 16, 0
.sectors: dw 0
    dw 0, BUFFER >> 4
.first: dq 0
drive:  db 0
align 8
table:
    dq 0, 0x00cf93000000ffff
table_pointer:
    dw $ - table - 1
    dd table
    times 0x1b8 - 4 * 12 - 12 - ($ - $$) db 0
; First sector, sectors, address to load it at; four of them, and the end.
pieces:
    times 5 * 12 db 0
    times 510 - ($ - $$) db 0
    dw 0xaa55
