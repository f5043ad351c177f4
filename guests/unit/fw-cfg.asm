; fw_cfg: selector and data ports, file directory, DMA; what it writes into code is executed: QEMU's fw_cfg specification.
%include "guest.inc"

SELECTOR    equ 0x510
DATA        equ 0x511
DMA         equ 0x514
TARGET      equ HIGH_SCRATCH

main:
    group "signature and interface"
    mov edx, SELECTOR
    xor eax, eax
    out dx, ax
    mov edx, DATA
    mov ecx, 4
    mov edi, TARGET
    rep insb
    check_eq [TARGET], 0x554d4551               ; QEMU
    in al, dx
    movzx eax, al
    check_eq eax, 0                             ; beyond the end
    mov edx, SELECTOR
    mov ax, 1
    out dx, ax
    mov edx, DATA
    in al, dx
    and eax, 3
    check_eq eax, 3                             ; ports and DMA

    group "file directory"
    mov edx, SELECTOR
    mov ax, 0x19
    out dx, ax
    mov edx, DATA
    mov edi, TARGET
    mov ecx, 4
    rep insb
    mov eax, [TARGET]
    bswap eax
    cmp eax, 1000
    check_true b

    group "DMA"
    mov edx, DMA
    in eax, dx
    check_eq eax, 0x554d4551                    ; "QEMU CFG", big-endian
    mov byte [TARGET + 0x800], 0xb8             ; MOV EAX, imm32; RET
    mov dword [TARGET + 0x801], 0
    mov byte [TARGET + 0x805], 0xc3
    mov edi, TARGET + 0x800
    call edi
    check_eq eax, 0
    mov dword [.control], 0x0a000000            ; select item 0, read
    mov dword [.length], 0x04000000
    mov dword [.high], 0
    mov eax, TARGET + 0x801
    bswap eax
    mov [.low], eax
    call .transfer
    check_eq [.control], 0
    mov edi, TARGET + 0x800
    call edi
    check_eq eax, 0x554d4551                    ; the code has changed
    mov dword [.control], 0x02000000            ; goes on where it was: zeros
    call .transfer
    check_eq [.control], 0
    check_eq [TARGET + 0x801], 0
    mov dword [.control], 0x0a00ff7f            ; no such item: zeros
    mov dword [TARGET + 0x801], -1
    call .transfer
    check_eq [TARGET + 0x801], 0
    mov dword [.control], 0x0c000000            ; skip
    mov dword [.length], 0x02000000
    call .transfer
    mov dword [.control], 0x02000000
    call .transfer
    movzx eax, word [TARGET + 0x801]
    check_eq eax, 0x554d
    mov dword [.control], 0x02000000            ; a target that is no memory
    mov dword [.high], 0xffffff7f
    call .transfer
    mov eax, [.control]
    bswap eax
    and eax, 1
    finish
.transfer:
    mov edx, DMA
    xor eax, eax
    out dx, eax
    mov eax, .control
    bswap eax
    add edx, 4
    out dx, eax
    mov ecx, 100000
.wait:
    test dword [.control], ~0x01000000
    jz .done
    loop .wait
.done:
    ret
align 16
.control:   dd 0
.length:    dd 0
.high:      dd 0
.low:       dd 0
