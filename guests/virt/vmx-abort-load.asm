; VMX: an MSR that cannot be loaded at a VM exit is a VMX abort: SDM volume 3, "VMX Aborts".
;! cpu=xeon
;! end=triple-fault
;! end-memory=0x201004:4
%include "guest.inc"
%include "vmx.inc"

main:
    go_long
  use 64
    call set_up_vmx
    group "VMX aborts: the MSR-load area"
    ; covers: abort 4
    mov dword [MSR_AREA], MSR_KERNEL_GS_BASE
    vmw EXIT_MSR_LOAD_ADDRESS, MSR_AREA
    vmw EXIT_MSR_LOAD_COUNT, 1
    guest_exits R_VMCALL, nop
    mov dword [MSR_AREA], MSR_FS_BASE
    run_guest_at .guest
    fail
    finish
.guest:
    vmcall
