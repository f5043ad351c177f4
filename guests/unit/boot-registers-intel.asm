; What operating systems ask of an Intel processor on the way to a shell: SDM volume 4, "Model-Specific Registers", and
; volume 2, "CPUID".
;! cpu=xeon,+hypervisor,+umip,+rdpid,+serialize,+monitor
%include "guest.inc"
%include "boot-registers.inc"

main:
    ; covers: CPUID required, CPUID leaves, MSRs common, CPUID mtrr, CPUID pat, CPUID mca, CPUID mce
    ; covers: CPUID spec_ctrl, CPUID arch_capabilities, CPUID bhi_ctrl
    common_registers

    group "boot: Intel's model-specific registers"
    ; covers: MSRs of Intel, no SMX
    readable 0x34, 0x34                     ; SMIs: none
    readable 0x3a, 0x3a
    readable 0xce, 0xce
    kept 0x140
    kept 0x1a0                              ; written without a look at faults
    mov ecx, 0x64e                          ; MSR_PPERF: read with one
    expect V_GP, 0, rdmsr
    has_features 1, c, 1 << 5
    mov eax, 1
    cpuid
    bt ecx, 6                               ; no SMX
    check_true nc

    group "boot: leaves of hypervisors"
    ; covers: CPUID hypervisor
    has_features 1, c, 1 << 31
    mov eax, 0x40000000
    cpuid
    check_eq eax, 0x40000010
    check_eq ebx, 'Ring'
    check_eq ecx, 'mast'
    check_eq edx, 'erRM'
    mov eax, 0x40000010                     ; frequencies in kHz
    cpuid
    cmp eax, 1000
    check_true a

    group "boot: instructions of single features"
    ; covers: CPUID rdpid, CPUID serialize, CPUID xgetbv1
    mov ecx, 0xc0000103
    mov eax, 0x1234
    xor edx, edx
    wrmsr
    rdpid eax
    check_eq eax, 0x1234
    expect_nothing serialize
    mov eax, cr4
    or eax, CR4_OSXSAVE
    mov cr4, eax
    xor ecx, ecx
    mov eax, 3
    xor edx, edx
    xsetbv
    mov ecx, 1                              ; what is in use of it
    expect_nothing xgetbv
    and eax, ~3
    check_eq eax, 0
    check_eq edx, 0
    mov ecx, 2
    expect V_GP, 0, xgetbv
    finish
