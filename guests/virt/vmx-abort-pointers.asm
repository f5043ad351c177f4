; VMX: page-directory pointers with reserved bits, to which a VM exit would return, are a VMX abort: SDM volume 3, "VMX
; Aborts", "Loading Host Control Registers, Debug Registers, MSRs".
;! cpu=xeon
;! end=triple-fault
;! end-memory=0x201004:2
%include "guest.inc"
%include "vmx.inc"
%include "vmx32.inc"

OTHER_POINTERS equ VMX_FREE

main:
    call set_up_vmx_32
    group "VMX aborts: page-directory pointers"
    ; covers: abort 2
    mov edi, OTHER_POINTERS
    mov esi, PAGE_TABLES
    mov ecx, 8
    rep movsd
    vmw32 HOST_CR3, OTHER_POINTERS
    vmw32 GUEST_RIP, guest
    call run_guest_32
    check_field32 EXIT_REASON, R_VMCALL
    or byte [OTHER_POINTERS + 8], PTE_W     ; reserved there
    call run_guest_32
    fail
    finish

guest:
    vmcall
