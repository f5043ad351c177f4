; Big real mode: segment registers keep limit and attributes of protected mode while their bases follow the selector.
%include "guest.inc"

FLAT_16     equ GDT_FREE            ; 4 GiB of data
SMALL       equ GDT_FREE + 8        ; 256 bytes
DOWN        equ GDT_FREE + 16       ; expand-down: offsets above 0xff
BIG_CODE    equ GDT_FREE + 32       ; 32-bit code at LOAD_ADDRESS

main:
    set_descriptor FLAT_16, 0, 0xfffff, ACCESS_DATA, FLAGS_PAGES32
    set_descriptor SMALL, SCRATCH, 0xff, ACCESS_DATA, FLAGS_BYTES16
    set_descriptor DOWN, SCRATCH, 0xff, ACCESS_DOWN, FLAGS_BYTES16
    set_descriptor BIG_CODE, LOAD_ADDRESS, 0xffff, ACCESS_CODE, FLAGS_BYTES32
    go_real

    group "limits survive the change to real mode"
    ; covers: unreal mode
    call load_big
    mov dword [dword gs:HIGH_SCRATCH], 0x12345678
    mov eax, [dword gs:HIGH_SCRATCH]
    check_eq eax, 0x12345678
    mov ax, 0x3000
    mov gs, ax                      ; the base changes, the limit does not
    mov eax, [dword gs:HIGH_SCRATCH - 0x30000]
    check_eq eax, 0x12345678
    mov ebx, HIGH_SCRATCH - 0x30000
    mov ecx, 2
    mov edi, ebx
    push es
    push gs
    pop es
    mov eax, 0xa5a5a5a5
    expect_nothing a32 rep stosd
    pop es
    mov eax, [gs:ebx + 4]
    check_eq eax, 0xa5a5a5a5
    expect V_GP, 0, mov al, [ebx]
    xor eax, eax
    mov fs, ax                      ; fs had 256 bytes
    expect_nothing mov al, [fs:0xff]
    expect V_GP, 0, mov ax, [fs:0xff]
    expect V_GP, 0, mov al, [fs:0x100]
    group "code of 32 bits in real mode"
    call leave_real                 ; CS.D of protected mode stays until a far transfer
    jmp dword CODE32:.in_protected
use 32
.in_protected:
    jmp BIG_CODE:at16(.based)
.based:
    mov eax, cr0
    and eax, ~CR0_PE
    mov cr0, eax
    mov ecx, 0x12345678             ; five bytes only in 32-bit code
    mov ebx, cs
    mov esi, cr0
    jmp dword (REAL_SEGMENT - 0x100):at16(.higher) + 0x1000     ; a far jump changes selector and base only
.higher:
    mov edx, 0x12345678
    mov edi, cs
    mov eax, cr0
    or eax, CR0_PE
    mov cr0, eax
    jmp CODE32:.home
.home:
    mov eax, DATA32
    mov ds, eax
    mov es, eax
    mov ss, eax
    lidt [idt_pointer]
    check_eq ebx, BIG_CODE
    check_eq ecx, 0x12345678
    check_eq edx, 0x12345678
    check_eq edi, REAL_SEGMENT - 0x100
    and esi, CR0_PE
    check_eq esi, 0
    finish

use 16
; GS and ES get 4 GiB, FS 256 bytes.
load_big:
    call leave_real
    mov ax, FLAT_16
    mov gs, ax
    mov es, ax
    mov ax, SMALL
    mov fs, ax
    mov eax, cr0
    and eax, ~CR0_PE
    mov cr0, eax
    lidt [at16(real_idt_pointer)]
    xor ax, ax
    mov gs, ax
    mov ax, REAL_SEGMENT
    mov es, ax
    ret
use 32
