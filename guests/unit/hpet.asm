; HPET: counter, comparators, one-shot and periodic, edge and level, legacy replacement: IA-PC HPET specification 1.0a.
%include "guest.inc"

HPET        equ 0xfed00000
CONFIG      equ HPET + 0x10
STATUS      equ HPET + 0x20
COUNTER     equ HPET + 0xf0
TIMER0      equ HPET + 0x100
COMPARATOR0 equ HPET + 0x108

main:
    call initialize_pic
    group "capabilities and counter"
    mov eax, [HPET]
    mov ebx, eax
    and ebx, 0x2000
    check_eq ebx, 0x2000                        ; 64-bit counter
    shr eax, 16
    check_eq eax, 0x8086
    mov eax, [HPET + 4]
    cmp eax, 100000000                          ; period in femtoseconds, at most 100 ns
    check_true be
    test eax, eax
    check_true nz
    mov dword [CONFIG], 0
    mov dword [COUNTER], 0x12345678
    mov dword [COUNTER + 4], 0
    mov eax, [COUNTER]
    check_eq eax, 0x12345678                    ; halted
    mov dword [CONFIG], 1
    mov eax, [COUNTER]
    mov ecx, 10000
.spin:
    loop .spin
    mov ebx, [COUNTER]
    sub ebx, eax
    check_true a
    ; against the TSC, whose frequency CPUID may tell: the ratio of two spans is the same
    rdtsc
    mov esi, eax
    mov edi, [COUNTER]
    mov ecx, 1000000
    call wait_tsc
    rdtsc
    sub eax, esi
    mov ebx, [COUNTER]
    sub ebx, edi
    mov [span_tsc], eax
    mov [span_counter], ebx
    rdtsc
    mov esi, eax
    mov edi, [COUNTER]
    mov ecx, 4000000
    call wait_tsc
    rdtsc
    sub eax, esi
    mov ebx, [COUNTER]
    sub ebx, edi
    ; eax / span_tsc against ebx / span_counter, within 10 %
    xor edx, edx
    mov ecx, 1000
    mul ecx
    div dword [span_tsc]
    mov esi, eax
    mov eax, ebx
    xor edx, edx
    mov ecx, 1000
    mul ecx
    div dword [span_counter]
    sub eax, esi
    add eax, 400
    cmp eax, 800
    check_true b

    group "legacy replacement: timer 0 is IRQ 0"
    mov dword [CONFIG], 0
    mov dword [COUNTER], 0
    mov dword [COUNTER + 4], 0
    mov dword [TIMER0], 4                       ; edge, one-shot
    mov dword [COMPARATOR0], 20000
    mov dword [COMPARATOR0 + 4], 0
    mov al, 0xfe
    out 0x21, al
    mov dword [CONFIG], 3
    expect_irq PIC_VECTOR
    mov eax, [COUNTER]
    cmp eax, 20000
    check_true ae
    mov al, 0x20
    out 0x20, al

    group "periodic"
    mov dword [CONFIG], 0
    mov dword [COUNTER], 0
    mov dword [TIMER0], 4 | 8 | 0x40            ; periodic, the next write sets the period as well
    mov dword [COMPARATOR0], 30000
    mov dword [COMPARATOR0], 30000
    set_handler PIC_VECTOR, count
    mov dword [ticks], 0
    mov dword [CONFIG], 3
    sti
.wait:
    cmp dword [ticks], 5
    jb .wait
    cli
    mov eax, [COUNTER]
    cmp eax, 5 * 30000
    check_true ae
    cmp eax, 8 * 30000
    check_true b
    mov dword [CONFIG], 0

    group "comparator beyond the counter"
    mov dword [TIMER0], 4
    mov dword [COUNTER], 0
    mov dword [COMPARATOR0], -1
    mov dword [ticks], 0
    mov dword [CONFIG], 3
    sti
    mov ecx, 20000
.idle:
    loop .idle
    cli
    check_eq [ticks], 0
    mov dword [CONFIG], 0
    finish

; Waits until the TSC has gone on by ECX.
wait_tsc:
    rdtsc
    mov ebx, eax
.wait:
    rdtsc
    sub eax, ebx
    cmp eax, ecx
    jb .wait
    ret
count:
    push eax
    inc dword [ticks]
    mov al, 0x20
    out 0x20, al
    pop eax
    iretd
ticks:          dd 0
span_tsc:       dd 0
span_counter:   dd 0
