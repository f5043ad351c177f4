; VIA's processor with VT-x: CPUID, capability registers without EPT, VPID and what came later, and a guest under every
; control that it has: SDM volume 3, appendix "VMX Capability Reporting Facility".
;! cpu=via-vt
%include "guest.inc"
%include "vmx.inc"
%include "vmx-firmware.inc"

; Word, bit, guest: entered with the control, and out again through VMCALL or the reason in the third place.
%macro entered 4+.nolist        ; word, control, reason, guest
    enable %1, %2
    guest_exits %3, %4
    fresh_guest
%endmacro
%macro by_control 4+.nolist     ; word, control, reason, instruction
    executed %4
    enable %1, %2
    intercepted %3, %4
    fresh_guest
%endmacro

main:
    go_long
  use 64
    group "VIA: CPUID"
    ; covers: identity
    xor eax, eax
    cpuid
    check_eq rbx, 'Cent'
    check_eq rdx, 'aurH'
    check_eq rcx, 'auls'
    mov eax, 1
    cpuid
    check_eq rax, 0x6fe
    bt ecx, 5
    check_true c
    bt ecx, 6                               ; no SMX
    check_true nc

    group "VIA: IA32_FEATURE_CONTROL and capability registers"
    ; covers: virtualization=on, capability registers
    firmware_has_switched_vmx_on
    mov ecx, 0x48b
    rdmsr
    check_eq rax, 0
    check_eq rdx, (1 << SEC_APIC_ACCESS) | (1 << SEC_TABLES) | (1 << SEC_RDTSCP) | (1 << SEC_WBINVD)
    mov ecx, 0x48c                          ; neither EPT nor VPID
    expect V_GP, 0, rdmsr
    mov ecx, 0x491                          ; nor VM functions
    expect V_GP, 0, rdmsr

    group "VIA: VMX operation"
    ; covers: checks
    call set_up_vmx
    guest_exits R_VMCALL, nop
    enable SECONDARY, SEC_EPT
    entry_fails E_CONTROLS
    fresh_guest
    enable SECONDARY, SEC_VPID
    entry_fails E_CONTROLS
    fresh_guest
    enable PIN, PIN_TIMER
    entry_fails E_CONTROLS
    fresh_guest
    vmw CR3_TARGET_COUNT, 5
    entry_fails E_CONTROLS
    fresh_guest
    vmw HOST_TR_SELECTOR, 0
    entry_fails E_HOST
    fresh_guest
    vmw GUEST_RFLAGS, 0
    entry_exits R_GUEST_STATE, 0
    fresh_guest
    expect V_UD, 0, invept rax, [pointer_vmcs]
    expect V_UD, 0, invvpid rax, [pointer_vmcs]
    expect V_UD, 0, vmfunc

    group "VIA: guests under each control"
    mov ecx, 1
    xor eax, eax
    xor edx, edx
    entered PIN, PIN_EXTERNAL, R_VMCALL, nop
    entered PIN, PIN_NMI, R_VMCALL, nop
    enable PIN, PIN_NMI
    entered PIN, PIN_VIRTUAL_NMI, R_VMCALL, nop
    enable PIN, PIN_NMI
    enable PIN, PIN_VIRTUAL_NMI
    entered PRIMARY, PRI_NMI_WINDOW, R_NMI_WINDOW, nop
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    entered PRIMARY, PRI_INTERRUPT_WINDOW, R_INTERRUPT_WINDOW, nop
    entered PRIMARY, PRI_TSC_OFFSET, R_VMCALL, rdtsc
    entered PRIMARY, PRI_HLT, R_HLT, hlt
    by_control PRIMARY, PRI_INVLPG, R_INVLPG, invlpg [0x1234]
    entered PRIMARY, PRI_MWAIT, R_VMCALL, nop
    entered PRIMARY, PRI_MONITOR, R_VMCALL, nop
    entered PRIMARY, PRI_RDPMC, R_RDPMC, rdpmc
    by_control PRIMARY, PRI_RDTSC, R_RDTSC, rdtsc
    mov r10, cr3
    by_control PRIMARY, PRI_CR3_LOAD, R_CR, mov cr3, r10
    by_control PRIMARY, PRI_CR3_STORE, R_CR, mov r11, cr3
    xor ebx, ebx
    by_control PRIMARY, PRI_CR8_LOAD, R_CR, mov cr8, rbx
    by_control PRIMARY, PRI_CR8_STORE, R_CR, mov rbx, cr8
    by_control PRIMARY, PRI_MOV_DR, R_DR, mov rax, dr0
    by_control PRIMARY, PRI_IO, R_IO, in al, 0x80
    vmw IO_BITMAP_A, IO_BITMAPS
    vmw IO_BITMAP_B, IO_BITMAPS + 0x1000
    bts dword [IO_BITMAPS + 0x10], 0        ; port 0x80
    by_control PRIMARY, PRI_IO_BITMAPS, R_IO, in al, 0x80
    by_control PRIMARY, PRI_PAUSE, R_PAUSE, pause
    enable PRIMARY, PRI_MTF
    guest_exits R_MTF, nop
    fresh_guest
    disable PRIMARY, PRI_MSR_BITMAPS        ; it is among what `fresh_guest` sets
    mov ecx, MSR_FS_BASE
    intercepted R_RDMSR, rdmsr
    fresh_guest
    executed rdmsr
    fresh_guest
    vmw TPR_THRESHOLD, 0
    mov ebx, 3
    enable PRIMARY, PRI_TPR_SHADOW
    executed mov cr8, rbx
    check_d [VIRTUAL_APIC + 0x80], 0x30
    mov ebx, VMX_FREE
    enable SECONDARY, SEC_APIC_ACCESS
    vmw APIC_ACCESS_ADDRESS, VMX_FREE
    executed mov eax, [rbx + 0x80]
    check_eq rax, 0x30
    guest_exits R_APIC_ACCESS, mov eax, [rbx + 0x20]
    fresh_guest
    by_control SECONDARY, SEC_TABLES, R_GLOBAL_TABLES, sgdt [VMX_FREE]
    by_control SECONDARY, SEC_WBINVD, R_WBINVD, wbinvd
    executed rdtscp
    disable SECONDARY, SEC_RDTSCP
    vmw EXCEPTION_BITMAP, 1 << V_UD
    guest_faults V_UD, 0, rdtscp

    group "VIA: what entries load and exits save"
    fresh_guest
    enable EXIT, EXIT_SAVE_DEBUG
    enable EXIT, EXIT_ACKNOWLEDGE
    enable EXIT, EXIT_SAVE_PAT
    enable EXIT, EXIT_LOAD_PAT
    enable EXIT, EXIT_SAVE_EFER
    enable EXIT, EXIT_LOAD_EFER
    enable ENTRY, ENTRY_LOAD_DEBUG
    enable ENTRY, ENTRY_LOAD_PAT
    enable ENTRY, ENTRY_LOAD_EFER
    vmw GUEST_DR7, 0x401
    jmp .over_state
.at_state:
    mov rbx, dr7
    vmcall
.over_state:
    run_guest_at .at_state
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x401
    check_field GUEST_DR7, 0x401
    finish
