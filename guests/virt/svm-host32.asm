; SVM: a hypervisor in 32-bit mode without paging: its guests run, and nested paging is not for it: AMD APM volume 2,
; "Canonicalization and Consistency Checks", "Enabling Nested Paging".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

%macro flat_segment 2           ; place, register
    mov eax, %2
    mov [%1], ax
    mov word [%1 + 2], %2_attributes32
    mov dword [%1 + 4], 0xffffffff
%endmacro
es_attributes32     equ 0xc93
ds_attributes32     equ 0xc93
ss_attributes32     equ 0xc93
cs_attributes32     equ 0xc9b

main:
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SVME
    wrmsr
    mov [.efer], eax
    write_msr MSR_VM_HSAVE_PA, 0, HOST_SAVE
    mov edi, VMCB
    mov ecx, 0x8000 / 4
    xor eax, eax
    rep stosd
    mov eax, VMCB
    vmsave
    mov eax, [.efer]
    mov [SAVE_EFER], eax
    mov dword [IOPM_BASE], IOPM
    mov dword [MSRPM_BASE], MSRPM
    mov dword [ASID], 1
    intercept I_VMRUN
    intercept I_VMMCALL
    flat_segment SAVE_ES, es
    flat_segment SAVE_CS, cs
    flat_segment SAVE_SS, ss
    flat_segment SAVE_DS, ds
    mov eax, cr0
    mov [SAVE_CR0], eax
    mov dword [SAVE_DR6], 0xffff0ff0
    mov dword [SAVE_DR7], 0x400
    mov dword [SAVE_RFLAGS], 2
    mov dword [SAVE_RSP], GUEST_STACK_TOP

    group "SVM of 32 bits: round trip"
    mov dword [SAVE_RIP], guest
    call run_guest_32
    check_eq [EXITCODE], EXIT_VMMCALL
    check_eq [SAVE_RIP], guest.end
    check_eq [SAVE_RAX], 0x1234
    check_eq [SAVE_RSP], GUEST_STACK_TOP - 4
    check_eq [GUEST_STACK_TOP - 4], 0x1234

    group "SVM of 32 bits: nested paging needs a host that pages"
    mov dword [NESTED_CTL], 1
    mov dword [SAVE_RIP], guest
    call run_guest_32
    check_eq [EXITCODE], EXIT_INVALID
    check_eq [EXITCODE + 4], -1
    check_eq [SAVE_RIP], guest
    mov dword [NESTED_CTL], 0
    call run_guest_32
    check_eq [EXITCODE], EXIT_VMMCALL
    finish
.efer: dd 0

run_guest_32:
    mov eax, VMCB
    vmrun
    ret

guest:
    mov eax, 0x1234
    push eax
.end:
    vmmcall
