; VMX: a hypervisor in 32-bit mode: what VM entry checks of it, and that its guests run: SDM volume 3, "Checks on the
; Host-State Area", "Checks Related to Address-Space Size".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"
%include "vmx32.inc"

main:
    call set_up_vmx_32

    group "VMX of 32 bits: round trip"
    vmw32 GUEST_RIP, guest
    call run_guest_32
    check_field32 EXIT_REASON, R_VMCALL
    check_field32 GUEST_RIP, guest.end
    check_eq ebx, 0x1234
    call run_guest_32                       ; it has been launched: VMRESUME
    check_field32 EXIT_REASON, R_VMCALL

    group "VM entry: Checks on Host Segment and Descriptor-Table Registers"
    ; if "exit: host address-space size" is 0, Host SS selector is not 0
    vmw32 HOST_SS_SELECTOR, 0
    refused32 E_HOST
    vmw32 HOST_SS_SELECTOR, DATA32
    call run_guest_32
    check_field32 EXIT_REASON, R_VMCALL

    group "VM entry: Checks Related to Address-Space Size"
    ; outside of IA-32e mode, "entry: IA-32e mode guest" and "exit: host address-space size" are 0
    controls32 ENTRY_CONTROLS, VMX_ENTRY, 1 << ENTRY_LONG
    refused32 E_HOST
    controls32 ENTRY_CONTROLS, VMX_ENTRY, 0
    controls32 EXIT_CONTROLS, VMX_EXIT, 1 << EXIT_LONG
    refused32 E_HOST
    controls32 EXIT_CONTROLS, VMX_EXIT, 0
    ; if "exit: host address-space size" is 0, "entry: IA-32e mode guest", CR4.PCIDE and bits 63:32 of RIP are 0
    vmw32 HOST_CR4, CR4_PAE | CR4_VMXE | CR4_PCIDE
    refused32 E_HOST
    vmw32 HOST_CR4, CR4_PAE | CR4_VMXE
    call run_guest_32
    check_field32 EXIT_REASON, R_VMCALL
    finish

guest:
    mov ebx, 0x1234
.end:
    vmcall
