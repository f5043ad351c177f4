; ACPI PM timer: 3.579545 MHz, 24 or 32 bits, in step with the TSC and the 8254; its overflow raises the SCI: ACPI
; specification, "Power Management Timer". The I/O base is where the LPC bridge says (ICH9 datasheet, PMBASE).
%include "guest.inc"

main:
    call initialize_pic
    mov eax, 0x8000f840                         ; bus 0, device 31, function 0: PMBASE
    mov edx, 0xcf8
    out dx, eax
    mov edx, 0xcfc
    in eax, dx
    and eax, 0xff80
    mov [base], eax

    group "counts"
    call read_timer
    mov esi, eax
    mov ecx, 20000
.spin:
    loop .spin
    call read_timer
    sub eax, esi
    and eax, 0xffffff
    check_true nz
    mov ecx, 1000                               ; never backwards
    call read_timer
    mov esi, eax
.monotonic:
    call read_timer
    mov edi, eax
    sub eax, esi
    and eax, 0xffffff
    cmp eax, 0x100000
    ja .backwards
    mov esi, edi
    loop .monotonic
    jmp .forwards
.backwards:
    fail
.forwards:

    group "in step with the TSC and the 8254"
    ; covers: one clock, CPUID constant_tsc
    mov al, 0x30                                ; 8254 counter 2 as a stopwatch: 6000 ticks, 5 ms
    in al, 0x61
    and al, 0xfc
    or al, 1
    out 0x61, al
    mov al, 0xb0
    out 0x43, al
    mov al, 6000 & 0xff
    out 0x42, al
    mov al, 6000 >> 8
    out 0x42, al
    call read_timer
    mov esi, eax
    rdtsc
    mov edi, eax
.wait:
    in al, 0x61
    test al, 0x20
    jz .wait
    call read_timer
    sub eax, esi
    and eax, 0xffffff
    ; 3 ticks of the PM timer to one of the 8254
    sub eax, 18000 - 2000
    cmp eax, 4000
    check_true b
    rdtsc
    sub eax, edi
    check_true nz
    mov ebx, eax                                ; TSC ticks in 5 ms
    call read_timer
    mov esi, eax
    rdtsc
    mov edi, eax
.wait_tsc:
    rdtsc
    sub eax, edi
    cmp eax, ebx
    jb .wait_tsc
    call read_timer
    sub eax, esi
    and eax, 0xffffff
    sub eax, 18000 - 3000
    cmp eax, 6000
    check_true b

    group "SCI of its overflow"
    mov edx, [base]
    mov ax, 0x1
    out dx, ax                                  ; clear TMR_STS
    mov ax, 1
    add edx, 2
    out dx, ax                                  ; TMR_EN
    add edx, 2
    in eax, dx
    or eax, 1
    out dx, eax                                 ; SCI_EN
    mov al, 0xfb
    out 0x21, al
    mov al, 0xfd                                ; IRQ 9
    out 0xa1, al
    mov dword [event.vector], NONE
    mov dword [armed.resume], .come
    mov [armed.sp], esp
    sti
    mov ebx, 3
.halt:
    hlt
    dec ebx
    jnz .halt
.come:
    cli
    mov dword [armed.resume], 0
    check_eq [event.vector], PIC_VECTOR + 9
    mov edx, [base]
    in ax, dx
    and eax, 1
    check_eq eax, 1
    mov ax, 1
    out dx, ax
    in ax, dx
    and eax, 1
    check_eq eax, 0
    add edx, 2
    xor eax, eax
    out dx, ax
    finish

read_timer:
    push edx
    mov edx, [base]
    add edx, 8
    in eax, dx
    pop edx
    ret
base:   dd 0
