; What operating systems ask of an AMD processor on the way to a shell: AMD's BIOS and Kernel Developer's Guides, AMD APM
; volume 3, "CPUID".
;! cpu=epyc,+fxsr_opt
%include "guest.inc"
%include "boot-registers.inc"

main:
    ; covers: CPUID required, CPUID leaves, MSRs common, CPUID mtrr, CPUID pat, CPUID mca, CPUID mce
    ; covers: CPUID spec_ctrl, CPUID arch_capabilities, CPUID bhi_ctrl
    common_registers

    group "boot: AMD's model-specific registers"
    ; covers: MSRs of AMD
    readable 0xc0000083, 0xc0000083
    kept 0xc0010010
    kept 0xc0010015
    kept 0xc001001f
    kept 0xc0010055
    kept 0xc0010058
    kept 0xc0011020
    kept 0xc0011028
    kept 0xc0011029
    mov ebx, 0xc0010000                     ; performance counters: read with a look at faults, and there are none
.counters:
    mov ecx, ebx
    expect V_GP, 0, rdmsr
    inc ebx
    cmp ebx, 0xc0010007
    jbe .counters
    mov ecx, 0xc0011029                     ; LFENCE is serializing
    rdmsr
    bt eax, 1
    check_true c
    has_features 0x80000021, a, (1 << 2) | (1 << 6)

    group "boot: what differs from Intel's"
    ; covers: CPUID altmovcr8, CPUID null_sel_clr_base, CPUID lfence_rdtsc
    mov eax, 7
    db 0xf0, 0x0f, 0x22, 0xc0               ; LOCK MOV CR0 is MOV CR8
    db 0xf0, 0x0f, 0x20, 0xc3               ; and back
    check_eq ebx, 7
    xor eax, eax
    db 0xf0, 0x0f, 0x22, 0xc0
    go_long
  use 64
    mov ecx, MSR_FS_BASE
    mov eax, 0x12345678
    xor edx, edx
    wrmsr
    xor eax, eax
    mov fs, eax                             ; a null selector clears the base
    mov ecx, MSR_FS_BASE
    rdmsr
    check_eq rax, 0

    group "boot: FXSAVE without XMM registers"
    ; covers: CPUID fxsr_opt
    mov rax, cr4
    or eax, CR4_OSFXSR
    mov cr4, rax
    mov eax, 0x5a5a5a5a
    movd xmm0, eax
    mov dword [SCRATCH + 160], 0x77
    mov ecx, MSR_EFER
    rdmsr
    bts eax, 14                             ; FFXSR
    wrmsr
    fxsave [SCRATCH]
    check_eq qword [SCRATCH + 160], 0x77
    mov ecx, MSR_EFER
    rdmsr
    btr eax, 14
    wrmsr
    fxsave [SCRATCH]
    check_eq qword [SCRATCH + 160], 0x5a5a5a5a
    finish
