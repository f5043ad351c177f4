; VMX: every check of VM entry fails once where nothing before it fails, and the VMCS without the mistake is entered:
; SDM volume 3, "Checks on VMX Controls and Host-State Area", "Checks on the Guest State Area".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

; A VMCS that passes, with as many controls as the checks are about.
%macro base_guest 0.nolist
    call make_base
%endmacro
; Word, bit
%macro with 2.nolist
    mov eax, %2
    mov r12d, %1_CONTROLS
    call set_control
%endmacro
%macro without 2.nolist
    mov eax, %2
    mov r12d, %1_CONTROLS
    call clear_control
%endmacro
; VM entry fails with this error, or leaves as an exit with this qualification.
%macro refused 1.nolist
    mov eax, %1
    mov ebx, __?LINE?__
    call must_refuse
%endmacro
%macro left 1.nolist
    mov eax, %1
    mov ebx, __?LINE?__
    call must_leave
%endmacro

main:
    go_long
  use 64
    call set_up_vmx
    base_guest
    guest_exits R_VMCALL, nop

    group "VM entry: VM-Execution Control Fields"
    ; reserved bits of the pin-based VM-execution controls have their values
    base_guest
    vmw PIN_CONTROLS, 0x0
    refused E_CONTROLS
    ; reserved bits of the primary processor-based VM-execution controls have their values
    base_guest
    vmw PRIMARY_CONTROLS, 0xffffffff
    vmw SECONDARY_CONTROLS, 0x0
    refused E_CONTROLS
    ; reserved bits of the secondary processor-based VM-execution controls have their values
    base_guest
    with PRIMARY, PRI_SECONDARY
    vmw SECONDARY_CONTROLS, 0x8000
    refused E_CONTROLS
    ; the CR3-target count is at most 4
    base_guest
    vmw CR3_TARGET_COUNT, 0x5
    refused E_CONTROLS
    ; if "use I/O bitmaps" is 1, the address of I/O bitmap A is a page's physical address
    base_guest
    with PRIMARY, PRI_IO_BITMAPS
    vmw IO_BITMAP_A, 0x1
    refused E_CONTROLS
    ; if "use I/O bitmaps" is 1, the address of I/O bitmap B is a page's physical address
    base_guest
    with PRIMARY, PRI_IO_BITMAPS
    vmw IO_BITMAP_B, 0x400000000000
    refused E_CONTROLS
    ; if "use MSR bitmaps" is 1, the address of the MSR bitmaps is a page's physical address
    base_guest
    with PRIMARY, PRI_MSR_BITMAPS
    vmw MSR_BITMAPS, 0x800
    refused E_CONTROLS
    ; if "use TPR shadow" is 1, the virtual-APIC address is a page's physical address
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    vmw VIRTUAL_APIC_ADDRESS, 0x8
    refused E_CONTROLS
    ; if "use TPR shadow" is 1 without "virtual-interrupt delivery", bits 31:4 of the TPR threshold are 0
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    vmw TPR_THRESHOLD, 0x10
    refused E_CONTROLS
    ; if "use TPR shadow" is 1 without "virtualize APIC accesses" and "virtual-interrupt delivery", the TPR threshold is at most bits 7:4 of VTPR
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    vmw TPR_THRESHOLD, 0x1
    refused E_CONTROLS
    ; if "NMI exiting" is 0, "virtual NMIs" is 0
    base_guest
    with PIN, PIN_VIRTUAL_NMI
    refused E_CONTROLS
    ; if "virtual NMIs" is 0, "NMI-window exiting" is 0
    base_guest
    with PRIMARY, PRI_NMI_WINDOW
    refused E_CONTROLS
    ; if "virtualize APIC accesses" is 1, the APIC-access address is a page's physical address
    base_guest
    with SECONDARY, SEC_APIC_ACCESS
    vmw APIC_ACCESS_ADDRESS, 0x4
    refused E_CONTROLS
    ; if "virtualize x2APIC mode" is 1, "use TPR shadow" is 1
    base_guest
    with SECONDARY, SEC_X2APIC
    refused E_CONTROLS
    ; if "APIC-register virtualization" is 1, "use TPR shadow" is 1
    base_guest
    with SECONDARY, SEC_APIC_REGISTERS
    refused E_CONTROLS
    ; if "virtual-interrupt delivery" is 1, "use TPR shadow" is 1
    base_guest
    with SECONDARY, SEC_INTERRUPTS
    refused E_CONTROLS
    ; if "virtualize x2APIC mode" is 1, "virtualize APIC accesses" is 0
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    with SECONDARY, SEC_X2APIC
    with SECONDARY, SEC_APIC_ACCESS
    vmw APIC_ACCESS_ADDRESS, VMX_FREE
    refused E_CONTROLS
    ; if "virtual-interrupt delivery" is 1, "external-interrupt exiting" is 1
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    with SECONDARY, SEC_INTERRUPTS
    refused E_CONTROLS
    ; if "process posted interrupts" is 1, "virtual-interrupt delivery" is 1
    base_guest
    with PIN, PIN_POSTED
    refused E_CONTROLS
    ; if "process posted interrupts" is 1, "exit: acknowledge interrupt on exit" is 1
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    with SECONDARY, SEC_INTERRUPTS
    with PIN, PIN_EXTERNAL
    with PIN, PIN_POSTED
    refused E_CONTROLS
    ; if "process posted interrupts" is 1, the notification vector is at most 255
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    with SECONDARY, SEC_INTERRUPTS
    with PIN, PIN_EXTERNAL
    with PIN, PIN_POSTED
    with EXIT, EXIT_ACKNOWLEDGE
    vmw POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0x100
    refused E_CONTROLS
    ; if "process posted interrupts" is 1, the descriptor's address is aligned to 64 bytes and within the physical-address width
    base_guest
    with PRIMARY, PRI_TPR_SHADOW
    with SECONDARY, SEC_INTERRUPTS
    with PIN, PIN_EXTERNAL
    with PIN, PIN_POSTED
    with EXIT, EXIT_ACKNOWLEDGE
    vmw POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xff
    vmw POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0x20
    refused E_CONTROLS
    ; if "enable VPID" is 1, the VPID is not 0
    base_guest
    with SECONDARY, SEC_VPID
    vmw VIRTUAL_PROCESSOR_ID, 0x0
    refused E_CONTROLS
    ; if "enable EPT" is 1, the EPTP has a supported memory type, walk length and accessed-dirty setting, and no reserved bit
    base_guest
    with SECONDARY, SEC_EPT
    vmw EPT_POINTER, 0x10006
    refused E_CONTROLS
    ; if "enable PML" is 1, "enable EPT" is 1
    base_guest
    with SECONDARY, SEC_PML
    refused E_CONTROLS
    ; if "unrestricted guest" is 1, "enable EPT" is 1
    base_guest
    with SECONDARY, SEC_UNRESTRICTED
    refused E_CONTROLS
    ; if "mode-based execute control for EPT" is 1, "enable EPT" is 1
    base_guest
    with SECONDARY, SEC_MODE_EXECUTE
    refused E_CONTROLS
    ; if "enable PML" is 1, the PML address is a page's physical address
    base_guest
    with SECONDARY, SEC_EPT
    with SECONDARY, SEC_PML
    vmw PML_ADDRESS, 0x8
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    refused E_CONTROLS
    ; if "enable VM functions" is 1, reserved bits of the VM-function controls are 0
    base_guest
    with SECONDARY, SEC_VMFUNC
    vmw VM_FUNCTION_CONTROLS, 0x2
    refused E_CONTROLS
    ; if "EPTP switching" is 1, "enable EPT" is 1
    base_guest
    with SECONDARY, SEC_VMFUNC
    vmw VM_FUNCTION_CONTROLS, 0x1
    refused E_CONTROLS
    ; if "EPTP switching" is 1, the EPTP-list address is a page's physical address
    base_guest
    with SECONDARY, SEC_EPT
    with SECONDARY, SEC_VMFUNC
    vmw VM_FUNCTION_CONTROLS, 0x1
    vmw EPTP_LIST_ADDRESS, 0x8
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    refused E_CONTROLS
    ; if "VMCS shadowing" is 1, the VMREAD-bitmap address is a page's physical address
    base_guest
    with SECONDARY, SEC_SHADOWING
    vmw VMREAD_BITMAP, 0x1
    refused E_CONTROLS
    ; if "VMCS shadowing" is 1, the VMWRITE-bitmap address is a page's physical address
    base_guest
    with SECONDARY, SEC_SHADOWING
    vmw VMREAD_BITMAP, VMX_FREE
    vmw VMWRITE_BITMAP, 0x1
    refused E_CONTROLS
    ; if "EPT-violation #VE" is 1, the virtualization-exception information address is a page's physical address
    base_guest
    with SECONDARY, SEC_VE
    vmw VIRTUALIZATION_EXCEPTION_ADDRESS, 0x1
    refused E_CONTROLS
    ; if "use TSC scaling" is 1, the TSC multiplier is not 0
    base_guest
    with SECONDARY, SEC_TSC_SCALING
    vmw TSC_MULTIPLIER, 0x0
    refused E_CONTROLS

    group "VM entry: VM-Exit Control Fields"
    ; reserved bits of the VM-exit controls have their values
    base_guest
    vmw EXIT_CONTROLS, 0xffffffff
    refused E_CONTROLS
    ; if "activate VMX-preemption timer" is 0, "exit: save VMX-preemption timer value" is 0
    base_guest
    with EXIT, EXIT_SAVE_TIMER
    refused E_CONTROLS
    ; the VM-exit MSR-store area is aligned to 16 bytes and within the physical-address width
    base_guest
    vmw EXIT_MSR_STORE_COUNT, 0x1
    vmw EXIT_MSR_STORE_ADDRESS, 0x8
    refused E_CONTROLS
    ; the VM-exit MSR-load area is aligned to 16 bytes and within the physical-address width
    base_guest
    vmw EXIT_MSR_LOAD_COUNT, 0x2
    vmw EXIT_MSR_LOAD_ADDRESS, 0x3ffffffffff0
    refused E_CONTROLS

    group "VM entry: VM-Entry Control Fields"
    ; reserved bits of the VM-entry controls have their values
    base_guest
    vmw ENTRY_CONTROLS, 0x0
    refused E_CONTROLS
    ; of an event to inject, the type is not reserved
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000100
    refused E_CONTROLS
    ; of an event to inject, the vector fits the type
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000203
    refused E_CONTROLS
    ; of an event to inject, the deliver-error-code bit is 1 exactly where an exception has an error code
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff8000030d
    refused E_CONTROLS
    ; of an event to inject, reserved bits are 0
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80002000
    refused E_CONTROLS
    ; of an event to inject, bits 31:16 of the error code are 0
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000b0d
    vmw ENTRY_EXCEPTION_ERROR_CODE, 0x10000
    refused E_CONTROLS
    ; of an event to inject, the instruction length of software interrupts and exceptions is at most 15
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000480
    vmw ENTRY_INSTRUCTION_LENGTH, 0x10
    refused E_CONTROLS
    ; the VM-entry MSR-load area is aligned to 16 bytes and within the physical-address width
    base_guest
    vmw ENTRY_MSR_LOAD_COUNT, 0x1
    vmw ENTRY_MSR_LOAD_ADDRESS, 0x400000000000
    refused E_CONTROLS

    group "VM entry: Checks on Host Control Registers, MSRs, and SSP"
    ; CR0 has the bits that VMX operation fixes, and none that is not supported
    base_guest
    vmw HOST_CR0, 0x80000001
    refused E_HOST
    ; CR4 has the bits that VMX operation fixes, and none that is not supported
    base_guest
    vmw HOST_CR4, 0x20
    refused E_HOST
    ; CR3 is within the physical-address width
    base_guest
    vmw HOST_CR3, 0x400000000000
    refused E_HOST
    ; Host IA32_SYSENTER_ESP is canonical
    base_guest
    vmw HOST_SYSENTER_ESP, 0x800000000000
    refused E_HOST
    ; Host IA32_SYSENTER_EIP is canonical
    base_guest
    vmw HOST_SYSENTER_EIP, 0x800000000000
    refused E_HOST
    ; if "exit: load IA32_PAT" is 1, every byte of IA32_PAT is a memory type
    base_guest
    vmw HOST_PAT, 0x2
    refused E_HOST
    ; if "exit: load IA32_EFER" is 1, reserved bits of IA32_EFER are 0
    base_guest
    vmw HOST_EFER, 0x502
    refused E_HOST
    ; if "exit: load IA32_EFER" is 1, LMA and LME both equal "exit: host address-space size"
    base_guest
    vmw HOST_EFER, 0x100
    refused E_HOST

    group "VM entry: Checks on Host Segment and Descriptor-Table Registers"
    ; RPL and TI of Host ES selector are 0
    base_guest
    vmw HOST_ES_SELECTOR, 0x3
    refused E_HOST
    ; RPL and TI of Host CS selector are 0
    base_guest
    vmw HOST_CS_SELECTOR, 0x4
    refused E_HOST
    ; RPL and TI of Host SS selector are 0
    base_guest
    vmw HOST_SS_SELECTOR, 0x1
    refused E_HOST
    ; RPL and TI of Host DS selector are 0
    base_guest
    vmw HOST_DS_SELECTOR, 0x2
    refused E_HOST
    ; RPL and TI of Host FS selector are 0
    base_guest
    vmw HOST_FS_SELECTOR, 0x4
    refused E_HOST
    ; RPL and TI of Host GS selector are 0
    base_guest
    vmw HOST_GS_SELECTOR, 0x4
    refused E_HOST
    ; RPL and TI of Host TR selector are 0
    base_guest
    vmw HOST_TR_SELECTOR, 0x4
    refused E_HOST
    ; Host CS selector is not 0
    base_guest
    vmw HOST_CS_SELECTOR, 0x0
    refused E_HOST
    ; Host TR selector is not 0
    base_guest
    vmw HOST_TR_SELECTOR, 0x0
    refused E_HOST
    ; Host FS base is canonical
    base_guest
    vmw HOST_FS_BASE, 0x800000000000
    refused E_HOST
    ; Host GS base is canonical
    base_guest
    vmw HOST_GS_BASE, 0x800000000000
    refused E_HOST
    ; Host GDTR base is canonical
    base_guest
    vmw HOST_GDTR_BASE, 0x800000000000
    refused E_HOST
    ; Host IDTR base is canonical
    base_guest
    vmw HOST_IDTR_BASE, 0x800000000000
    refused E_HOST
    ; Host TR base is canonical
    base_guest
    vmw HOST_TR_BASE, 0x800000000000
    refused E_HOST

    group "VM entry: Checks Related to Address-Space Size"
    ; in IA-32e mode, "exit: host address-space size" is 1
    base_guest
    without EXIT, EXIT_LONG
    vmw HOST_EFER, 0x0
    refused E_HOST
    ; if "exit: host address-space size" is 1, CR4.PAE is 1
    base_guest
    vmw HOST_CR4, 0x2000
    refused E_HOST
    ; if "exit: host address-space size" is 1, RIP is canonical
    base_guest
    vmw HOST_RIP, 0x800000000000
    refused E_HOST

    group "VM entry: Checks on Guest Control Registers, Debug Registers, and MSRs"
    ; CR0 has the bits that VMX operation fixes (PE and PG not with "unrestricted guest"), and none that is not supported
    base_guest
    vmw GUEST_CR0, 0x80000001
    left 0
    ; if CR0.PG is 1, CR0.PE is 1
    base_guest
    with SECONDARY, SEC_UNRESTRICTED
    with SECONDARY, SEC_EPT
    vmw GUEST_CR0, 0x80000020
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    left 0
    ; CR4 has the bits that VMX operation fixes, and none that is not supported
    base_guest
    vmw GUEST_CR4, 0x20
    left 0
    ; if "entry: load debug controls" is 1, reserved bits of IA32_DEBUGCTL are 0
    base_guest
    vmw GUEST_DEBUG_CONTROL, 0x4
    left 0
    ; if "entry: IA-32e mode guest" is 1, CR0.PG and CR4.PAE are 1
    base_guest
    vmw GUEST_CR4, 0x2000
    left 0
    ; if "entry: IA-32e mode guest" is 0, CR4.PCIDE is 0
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_CR4, 0x22020
    left 0
    ; CR3 is within the physical-address width
    base_guest
    vmw GUEST_CR3, 0x400000000000
    left 0
    ; if "entry: load debug controls" is 1, bits 63:32 of DR7 are 0
    base_guest
    vmw GUEST_DR7, 0x100000000
    left 0
    ; Guest IA32_SYSENTER_ESP is canonical
    base_guest
    vmw GUEST_SYSENTER_ESP, 0x800000000000
    left 0
    ; Guest IA32_SYSENTER_EIP is canonical
    base_guest
    vmw GUEST_SYSENTER_EIP, 0x800000000000
    left 0
    ; if "entry: load IA32_PAT" is 1, every byte of IA32_PAT is a memory type
    base_guest
    vmw GUEST_PAT, 0x3
    left 0
    ; if "entry: load IA32_EFER" is 1, reserved bits of IA32_EFER are 0
    base_guest
    vmw GUEST_EFER, 0x502
    left 0
    ; if "entry: load IA32_EFER" is 1, LMA equals "entry: IA-32e mode guest"
    base_guest
    vmw GUEST_EFER, 0x0
    left 0
    ; if "entry: load IA32_EFER" and CR0.PG are 1, LMA equals LME
    base_guest
    vmw GUEST_EFER, 0x400
    left 0

    group "VM entry: Checks on Guest Segment Registers"
    ; TR: TI is 0
    base_guest
    vmw GUEST_TR_SELECTOR, 0x4
    left 0
    ; LDTR: if usable, TI is 0
    base_guest
    vmw GUEST_LDTR_SELECTOR, 0x4
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x82
    left 0
    ; SS: outside of virtual-8086 mode and without "unrestricted guest", RPL equals that of CS
    base_guest
    vmw GUEST_SS_SELECTOR, 0x3
    left 0
    ; TR: the base is canonical
    base_guest
    vmw GUEST_TR_BASE, 0x800000000000
    left 0
    ; FS: the base is canonical
    base_guest
    vmw GUEST_FS_BASE, 0x800000000000
    left 0
    ; GS: the base is canonical
    base_guest
    vmw GUEST_GS_BASE, 0x800000000000
    left 0
    ; LDTR: if usable, the base is canonical
    base_guest
    vmw GUEST_LDTR_BASE, 0x800000000000
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x82
    left 0
    ; CS: bits 63:32 of the base are 0
    base_guest
    vmw GUEST_CS_BASE, 0x100000000
    left 0
    ; SS: if usable, bits 63:32 of the base are 0
    base_guest
    vmw GUEST_SS_BASE, 0x100000000
    left 0
    ; DS: if usable, bits 63:32 of the base are 0
    base_guest
    vmw GUEST_DS_BASE, 0x100000000
    left 0
    ; ES: if usable, bits 63:32 of the base are 0
    base_guest
    vmw GUEST_ES_BASE, 0x100000000
    left 0
    ; CS: in virtual-8086 mode, the base is 16 times the selector
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1010
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; CS: in virtual-8086 mode, the limit is 0xffff
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xfffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; CS: in virtual-8086 mode, the access rights are 0xf3
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0x93
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; CS: if usable, S is 1
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa08b
    left 0
    ; CS: if usable, P is 1
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa01b
    left 0
    ; CS: if usable, reserved bits of the access rights are 0
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa19b
    left 0
    ; CS: if usable, G fits the limit
    base_guest
    vmw GUEST_CS_LIMIT, 0x1000
    left 0
    ; SS: in virtual-8086 mode, the base is 16 times the selector
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1010
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; SS: in virtual-8086 mode, the limit is 0xffff
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xfffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; SS: in virtual-8086 mode, the access rights are 0xf3
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0x93
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; SS: if usable, S is 1
    base_guest
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc083
    left 0
    ; SS: if usable, P is 1
    base_guest
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc013
    left 0
    ; SS: if usable, reserved bits of the access rights are 0
    base_guest
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc193
    left 0
    ; SS: if usable, G fits the limit
    base_guest
    vmw GUEST_SS_LIMIT, 0x1000
    left 0
    ; DS: in virtual-8086 mode, the base is 16 times the selector
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1010
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; DS: in virtual-8086 mode, the limit is 0xffff
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xfffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; DS: in virtual-8086 mode, the access rights are 0xf3
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0x93
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; DS: if usable, S is 1
    base_guest
    vmw GUEST_DS_ACCESS_RIGHTS, 0xc083
    left 0
    ; DS: if usable, P is 1
    base_guest
    vmw GUEST_DS_ACCESS_RIGHTS, 0xc013
    left 0
    ; DS: if usable, reserved bits of the access rights are 0
    base_guest
    vmw GUEST_DS_ACCESS_RIGHTS, 0xc193
    left 0
    ; DS: if usable, G fits the limit
    base_guest
    vmw GUEST_DS_LIMIT, 0x1000
    left 0
    ; ES: in virtual-8086 mode, the base is 16 times the selector
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1010
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; ES: in virtual-8086 mode, the limit is 0xffff
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xfffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; ES: in virtual-8086 mode, the access rights are 0xf3
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0x93
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; ES: if usable, S is 1
    base_guest
    vmw GUEST_ES_ACCESS_RIGHTS, 0xc083
    left 0
    ; ES: if usable, P is 1
    base_guest
    vmw GUEST_ES_ACCESS_RIGHTS, 0xc013
    left 0
    ; ES: if usable, reserved bits of the access rights are 0
    base_guest
    vmw GUEST_ES_ACCESS_RIGHTS, 0xc193
    left 0
    ; ES: if usable, G fits the limit
    base_guest
    vmw GUEST_ES_LIMIT, 0x1000
    left 0
    ; FS: in virtual-8086 mode, the base is 16 times the selector
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1010
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; FS: in virtual-8086 mode, the limit is 0xffff
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xfffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; FS: in virtual-8086 mode, the access rights are 0xf3
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0x93
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; FS: if usable, S is 1
    base_guest
    vmw GUEST_FS_ACCESS_RIGHTS, 0xc083
    left 0
    ; FS: if usable, P is 1
    base_guest
    vmw GUEST_FS_ACCESS_RIGHTS, 0xc013
    left 0
    ; FS: if usable, reserved bits of the access rights are 0
    base_guest
    vmw GUEST_FS_ACCESS_RIGHTS, 0xc193
    left 0
    ; FS: if usable, G fits the limit
    base_guest
    vmw GUEST_FS_LIMIT, 0x1000
    left 0
    ; GS: in virtual-8086 mode, the base is 16 times the selector
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1010
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; GS: in virtual-8086 mode, the limit is 0xffff
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xfffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    left 0
    ; GS: in virtual-8086 mode, the access rights are 0xf3
    base_guest
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0x93
    left 0
    ; GS: if usable, S is 1
    base_guest
    vmw GUEST_GS_ACCESS_RIGHTS, 0xc083
    left 0
    ; GS: if usable, P is 1
    base_guest
    vmw GUEST_GS_ACCESS_RIGHTS, 0xc013
    left 0
    ; GS: if usable, reserved bits of the access rights are 0
    base_guest
    vmw GUEST_GS_ACCESS_RIGHTS, 0xc193
    left 0
    ; GS: if usable, G fits the limit
    base_guest
    vmw GUEST_GS_LIMIT, 0x1000
    left 0
    ; CS: the type is accessed code (or, with "unrestricted guest", accessed writable data)
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa093
    left 0
    ; SS: if usable, the type is accessed writable data
    base_guest
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc091
    left 0
    ; DS: if usable, the type is accessed
    base_guest
    vmw GUEST_DS_ACCESS_RIGHTS, 0xc092
    left 0
    ; DS: if usable, code is readable
    base_guest
    vmw GUEST_DS_ACCESS_RIGHTS, 0xc099
    left 0
    ; DS: without "unrestricted guest", DPL of data and non-conforming code is at least RPL
    base_guest
    vmw GUEST_DS_SELECTOR, 0x13
    left 0
    ; ES: if usable, the type is accessed
    base_guest
    vmw GUEST_ES_ACCESS_RIGHTS, 0xc092
    left 0
    ; ES: if usable, code is readable
    base_guest
    vmw GUEST_ES_ACCESS_RIGHTS, 0xc099
    left 0
    ; ES: without "unrestricted guest", DPL of data and non-conforming code is at least RPL
    base_guest
    vmw GUEST_ES_SELECTOR, 0x13
    left 0
    ; FS: if usable, the type is accessed
    base_guest
    vmw GUEST_FS_ACCESS_RIGHTS, 0xc092
    left 0
    ; FS: if usable, code is readable
    base_guest
    vmw GUEST_FS_ACCESS_RIGHTS, 0xc099
    left 0
    ; FS: without "unrestricted guest", DPL of data and non-conforming code is at least RPL
    base_guest
    vmw GUEST_FS_SELECTOR, 0x13
    left 0
    ; GS: if usable, the type is accessed
    base_guest
    vmw GUEST_GS_ACCESS_RIGHTS, 0xc092
    left 0
    ; GS: if usable, code is readable
    base_guest
    vmw GUEST_GS_ACCESS_RIGHTS, 0xc099
    left 0
    ; GS: without "unrestricted guest", DPL of data and non-conforming code is at least RPL
    base_guest
    vmw GUEST_GS_SELECTOR, 0x13
    left 0
    ; CS: DPL is 0 for data, that of SS for code, and at most that of SS for conforming code
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa0fb
    left 0
    ; SS: without "unrestricted guest", DPL equals RPL
    base_guest
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc0f3
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa0fb
    left 0
    ; SS: DPL is 0 if CS is data or CR0.PE is 0
    base_guest
    with SECONDARY, SEC_EPT
    with SECONDARY, SEC_UNRESTRICTED
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_CR0, 0x20
    vmw GUEST_CR4, 0x2000
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc0f3
    vmw GUEST_CS_ACCESS_RIGHTS, 0xc0fb
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    left 0
    ; CS: in 64-bit mode, D/B is 0
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xe09b
    left 0
    ; TR: the type is a busy TSS (of 32 or 64 bits in IA-32e mode)
    base_guest
    vmw GUEST_TR_ACCESS_RIGHTS, 0x83
    left 0
    ; TR: S is 0
    base_guest
    vmw GUEST_TR_ACCESS_RIGHTS, 0x9b
    left 0
    ; TR: P is 1
    base_guest
    vmw GUEST_TR_ACCESS_RIGHTS, 0xb
    left 0
    ; TR: reserved bits of the access rights are 0
    base_guest
    vmw GUEST_TR_ACCESS_RIGHTS, 0x18b
    left 0
    ; TR: G fits the limit
    base_guest
    vmw GUEST_TR_ACCESS_RIGHTS, 0x808b
    left 0
    ; TR: the register is usable
    base_guest
    vmw GUEST_TR_ACCESS_RIGHTS, 0x1008b
    left 0
    ; LDTR: if usable, the type is an LDT
    base_guest
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x83
    left 0
    ; LDTR: S is 0
    base_guest
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x92
    left 0
    ; LDTR: P is 1
    base_guest
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x2
    left 0
    ; LDTR: reserved bits of the access rights are 0
    base_guest
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x182
    left 0
    ; LDTR: G fits the limit
    base_guest
    vmw GUEST_LDTR_ACCESS_RIGHTS, 0x8082
    left 0

    group "VM entry: Checks on Guest Descriptor-Table Registers"
    ; Guest GDTR base is canonical
    base_guest
    vmw GUEST_GDTR_BASE, 0x800000000000
    left 0
    ; Guest IDTR base is canonical
    base_guest
    vmw GUEST_IDTR_BASE, 0x800000000000
    left 0
    ; bits 31:16 of Guest GDTR limit are 0
    base_guest
    vmw GUEST_GDTR_LIMIT, 0x10000
    left 0
    ; bits 31:16 of Guest IDTR limit are 0
    base_guest
    vmw GUEST_IDTR_LIMIT, 0x10000
    left 0

    group "VM entry: Checks on Guest RIP, RFLAGS, and SSP"
    ; outside of 64-bit mode, bits 63:32 of RIP are 0
    base_guest
    vmw GUEST_CS_ACCESS_RIGHTS, 0xc09b
    vmw GUEST_RIP, 0x100000000
    left 0
    ; in 64-bit mode, RIP is canonical
    base_guest
    vmw GUEST_RIP, 0x800000000000
    left 0
    ; reserved bits of RFLAGS are 0 and bit 1 is 1
    base_guest
    vmw GUEST_RFLAGS, 0x0
    left 0
    ; RFLAGS.VM is 0 in IA-32e mode and while CR0.PE is 0
    base_guest
    with SECONDARY, SEC_EPT
    with SECONDARY, SEC_UNRESTRICTED
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_RFLAGS, 0x20002
    vmw GUEST_CR4, 0x2000
    vmw GUEST_ES_SELECTOR, 0x100
    vmw GUEST_ES_BASE, 0x1000
    vmw GUEST_ES_LIMIT, 0xffff
    vmw GUEST_ES_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CS_SELECTOR, 0x100
    vmw GUEST_CS_BASE, 0x1000
    vmw GUEST_CS_LIMIT, 0xffff
    vmw GUEST_CS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_SS_SELECTOR, 0x100
    vmw GUEST_SS_BASE, 0x1000
    vmw GUEST_SS_LIMIT, 0xffff
    vmw GUEST_SS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_DS_SELECTOR, 0x100
    vmw GUEST_DS_BASE, 0x1000
    vmw GUEST_DS_LIMIT, 0xffff
    vmw GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_FS_SELECTOR, 0x100
    vmw GUEST_FS_BASE, 0x1000
    vmw GUEST_FS_LIMIT, 0xffff
    vmw GUEST_FS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_GS_SELECTOR, 0x100
    vmw GUEST_GS_BASE, 0x1000
    vmw GUEST_GS_LIMIT, 0xffff
    vmw GUEST_GS_ACCESS_RIGHTS, 0xf3
    vmw GUEST_CR0, 0x20
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    left 0
    ; if an external interrupt is injected, RFLAGS.IF is 1
    base_guest
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000020
    left 0

    group "VM entry: Checks on Guest Non-Register State"
    ; the activity state is active, HLT, shutdown or wait-for-SIPI
    base_guest
    vmw GUEST_ACTIVITY, 0x4
    left 0
    ; the activity state is not HLT above privilege level 0
    base_guest
    vmw GUEST_ACTIVITY, 0x1
    vmw GUEST_CS_SELECTOR, 0xb
    vmw GUEST_SS_SELECTOR, 0x13
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc0f3
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa0fb
    left 0
    ; the activity state is active while STI or MOV SS blocks
    base_guest
    vmw GUEST_ACTIVITY, 0x1
    vmw GUEST_INTERRUPTIBILITY, 0x2
    left 0
    ; the activity state admits the event to inject
    base_guest
    vmw GUEST_ACTIVITY, 0x3
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000202
    left 0
    ; reserved bits of the interruptibility state are 0
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x10
    left 0
    ; STI and MOV SS do not block both
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x3
    vmw GUEST_RFLAGS, 0x202
    left 0
    ; STI does not block while RFLAGS.IF is 0
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x1
    left 0
    ; neither STI nor MOV SS blocks an external interrupt to inject
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x2
    vmw GUEST_RFLAGS, 0x202
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000020
    left 0
    ; MOV SS does not block an NMI to inject
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x2
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000202
    left 0
    ; STI does not block an NMI to inject
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x1
    vmw GUEST_RFLAGS, 0x202
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000202
    left 3
    ; SMIs are not blocked outside of system-management mode
    base_guest
    vmw GUEST_INTERRUPTIBILITY, 0x4
    left 0
    ; with "virtual NMIs", an NMI to inject is not blocked
    base_guest
    with PIN, PIN_NMI
    with PIN, PIN_VIRTUAL_NMI
    vmw GUEST_INTERRUPTIBILITY, 0x8
    vmw ENTRY_INTERRUPTION_INFORMATION, 0xffffffff80000202
    left 0
    ; reserved bits of the pending debug exceptions are 0
    base_guest
    vmw GUEST_PENDING_DEBUG_EXCEPTIONS, 0x10
    left 0
    ; while STI or MOV SS blocks or the activity state is HLT, a single step is pending exactly if RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0
    base_guest
    vmw GUEST_PENDING_DEBUG_EXCEPTIONS, 0x4000
    vmw GUEST_ACTIVITY, 0x1
    left 0
    ; a VMCS link pointer is a page's physical address
    base_guest
    vmw VMCS_LINK_POINTER, 0x8
    left 4
    ; a VMCS link pointer leads to our revision identifier, with the shadow indicator as "VMCS shadowing" is
    base_guest
    vmw VMCS_LINK_POINTER, 0x9000
    left 4
    ; a VMCS link pointer does not lead to the current VMCS
    base_guest
    vmw VMCS_LINK_POINTER, VMCS
    left 4

    group "VM entry: Checks on Guest Page-Directory-Pointer-Table Entries"
    ; with PAE paging and EPT, reserved bits of the PDPTE fields are 0
    base_guest
    with SECONDARY, SEC_EPT
    without ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0x0
    vmw GUEST_CS_ACCESS_RIGHTS, 0xc09b
    vmw GUEST_PDPTE2, 0x3
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    left 2

    group "VM entry: after all that"
    base_guest
    guest_exits R_VMCALL, nop
    finish

make_base:
    fresh_guest
    with EXIT, EXIT_LOAD_PAT
    with EXIT, EXIT_LOAD_EFER
    with ENTRY, ENTRY_LOAD_PAT
    with ENTRY, ENTRY_LOAD_EFER
    with ENTRY, ENTRY_LOAD_DEBUG
    vmw GUEST_RIP, .guest
    vmw TSC_MULTIPLIER, 0x1000
    vmw EPT_POINTER, EPT_TABLES | 0x1e
    %assign i 0
    %rep 2
    vmw GUEST_FS_SELECTOR + i, DATA32
    vmw GUEST_FS_LIMIT + i, 0xffffffff
    vmw GUEST_FS_ACCESS_RIGHTS + i, 0xc093
    %assign i i + 2
    %endrep
    ret
.guest:
    vmcall

; Bit EAX of field R12; secondary controls with what activates them.
set_control:
    vmread r13, r12
    bts r13, rax
    vmwrite r12, r13
    cmp r12d, SECONDARY_CONTROLS
    jne .end
    enable PRIMARY, PRI_SECONDARY
.end:
    ret
clear_control:
    vmread r13, r12
    btr r13, rax
    vmwrite r12, r13
    ret

; Error in EAX, line in EBX
must_refuse:
    push rbx
    push rax
    call run_guest
    pop rax
    pop rbx
    movzx r14d, word [entry_flags]
    and r14d, FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF
    cmp r14d, FLAG_ZF
    jne .wrong
    vmr r14, INSTRUCTION_ERROR
    cmp r14, rax
    jne .wrong
    push rbx
    call note_success_64
    ret
.wrong:
    push rbx
    call note_failure_64
    ret

; Qualification in EAX, line in EBX
must_leave:
    push rbx
    push rax
    call run_guest
    pop rax
    pop rbx
    mov r13d, ENTRY_FAILED | R_GUEST_STATE
    vmr r14, EXIT_REASON
    cmp r14, r13
    jne must_refuse.wrong
    vmr r14, EXIT_QUALIFICATION
    cmp r14, rax
    jne must_refuse.wrong
    push rbx
    call note_success_64
    ret
