; The local APIC in x2APIC mode: MSRs, self-IPI, transitions of mode: SDM volume 3, "Extended XAPIC (x2APIC)".
%include "guest.inc"

%macro write_apic 2             ; register's MSR, value; changes EAX, ECX, EDX
    mov ecx, 0x800 + (%1)
    mov eax, %2
    xor edx, edx
    wrmsr
%endmacro
%macro read_apic 1              ; to EDX:EAX; changes ECX
    mov ecx, 0x800 + (%1)
    rdmsr
%endmacro
%macro expect_window 1.nolist
    expect_at %1, 0, window.open, call window
%endmacro
%macro expect_no_window 0.nolist
    expect_nothing call window
%endmacro
%macro set_base_msr 1           ; bits 11:8
    mov ecx, MSR_APIC_BASE
    mov eax, LOCAL_APIC | (%1)
    xor edx, edx
%endmacro
ENABLED     equ 0x800
EXTENDED    equ 0x400
BOOT        equ 0x100

main:
    call initialize_pic
    group "transitions"
    mov ecx, 0x802
    expect V_GP, 0, rdmsr                       ; not in xAPIC mode
    expect V_GP, 0, wrmsr
    set_base_msr EXTENDED | BOOT
    expect V_GP, 0, wrmsr                       ; from xAPIC to an invalid state
    mov dword [LOCAL_APIC + 0xf0], 0x1ff
    mov ebx, [LOCAL_APIC + 0x20]
    shr ebx, 24
    set_base_msr ENABLED | EXTENDED | BOOT
    expect_nothing wrmsr
    rdmsr
    check_eq eax, LOCAL_APIC | ENABLED | EXTENDED | BOOT
    set_base_msr ENABLED | BOOT
    expect V_GP, 0, wrmsr                       ; back to xAPIC: only by way of disabled

    group "registers"
    ; covers: CPUID x2apic
    read_apic 2
    check_eq eax, ebx                           ; 32-bit ID
    read_apic 0xf
    check_eq eax, 0x1ff                         ; survived the transition
    write_apic 8, 0x30
    read_apic 8
    check_eq eax, 0x30
    read_apic 0xa
    check_eq eax, 0x30
    write_apic 8, 0
    read_apic 0xd
    mov esi, ebx
    shr esi, 4
    shl esi, 16
    mov ecx, ebx
    and ecx, 15
    mov edi, 1
    shl edi, cl
    or esi, edi
    check_eq eax, esi                           ; the logical ID follows from the ID
    mov ecx, 0x802
    expect V_GP, 0, wrmsr                       ; read-only
    mov ecx, 0x80a
    expect V_GP, 0, wrmsr
    mov ecx, 0x80d
    expect V_GP, 0, wrmsr
    mov ecx, 0x80e                              ; no DFR
    expect V_GP, 0, rdmsr
    mov ecx, 0x831                              ; no upper half of ICR
    expect V_GP, 0, rdmsr
    mov ecx, 0x80b
    expect V_GP, 0, rdmsr                       ; EOI is write-only
    mov eax, 1
    xor edx, edx
    expect V_GP, 0, wrmsr                       ; and takes 0 only
    mov ecx, 0x808
    mov eax, 0x100
    expect V_GP, 0, wrmsr                       ; reserved bits
    mov ecx, 0x80f
    mov eax, 0x1ff
    mov edx, 1
    expect V_GP, 0, wrmsr
    mov ecx, 0x804
    expect V_GP, 0, rdmsr
    user_expect V_GP, 0, rdmsr

    group "interrupts"
    write_apic 0x3f, 0x61                       ; SELF IPI
    read_apic 0x23
    shr eax, 1
    and eax, 1
    check_eq eax, 1                             ; IRR 0x61
    expect_window 0x61
    read_apic 0x13
    shr eax, 1
    and eax, 1
    check_eq eax, 1                             ; ISR
    write_apic 0xb, 0
    mov ecx, 0x830
    mov eax, 0x4062
    mov edx, ebx                                ; physical, our ID
    wrmsr
    expect_window 0x62
    write_apic 0xb, 0
    mov ecx, 0x830
    mov eax, 0x4863
    mov edx, esi                                ; logical
    wrmsr
    expect_window 0x63
    write_apic 0xb, 0
    mov ecx, 0x830
    mov eax, 0x4064
    mov edx, -1                                 ; everybody
    wrmsr
    expect_window 0x64
    write_apic 0xb, 0
    read_apic 0x30
    check_eq edx, -1
    mov ecx, 0x830
    mov eax, 0x4065
    mov edx, 0x12345
    wrmsr                                       ; nobody
    expect_no_window
    mov ecx, 0x83f
    expect V_GP, 0, rdmsr

    group "timer"
    write_apic 0x3e, 0xb
    write_apic 0x32, 0x70
    write_apic 0x38, 5000
    sti
    mov dword [armed.resume], .fired
    mov [armed.sp], esp
    mov ecx, 10000000
.wait:
    dec ecx
    jnz .wait
.fired:
    mov dword [armed.resume], 0
    check_eq [event.vector], 0x70
    write_apic 0xb, 0
    read_apic 0x39
    check_eq eax, 0
    write_apic 0x32, 0x10000

    group "disabled"
    set_base_msr BOOT
    expect_nothing wrmsr
    mov eax, 1
    cpuid
    bt edx, 9
    check_true nc                               ; CPUID says that there is none
    mov ecx, 0x802
    expect V_GP, 0, rdmsr
    set_base_msr EXTENDED | BOOT
    expect V_GP, 0, wrmsr
    set_base_msr ENABLED | BOOT
    expect_nothing wrmsr
    mov eax, [LOCAL_APIC + 0xf0]
    check_eq eax, 0xff                          ; as after reset
    mov eax, 1
    cpuid
    bt edx, 9
    check_true c
    finish

window:
    sti
    nop
.open:
    nop
    cli
    ret
