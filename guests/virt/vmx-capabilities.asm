; VMX: what the capability registers say, one against the other, and that there are as many fields as they say, each of its
; width: SDM volume 3, appendices "VMX Capability Reporting Facility" and "Field Encoding in VMCS".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

FIELDS_OFFERED equ 151

; High, low half of IA32_VMX_*
%macro capability 3
    check_msr %1, %2, %3
%endmacro

main:
    go_long
  use 64
    group "VMX capabilities: controls"
    ; covers: MSR 0x481, MSR 0x482, MSR 0x483, MSR 0x484, MSR 0x48d, MSR 0x48e, MSR 0x48f, MSR 0x490
    mov ebx, 0x481
.controls:
    mov ecx, ebx
    rdmsr
    mov r8d, eax                            ; must be 1, by the first processors' register
    mov r9d, edx
    lea ecx, [rbx + 12]                     ; the TRUE one
    rdmsr
    check_eq rdx, r9
    mov r10d, eax
    and r10d, r8d
    check_eq rax, r10                       ; requires no more
    mov r10d, eax
    and r10d, edx
    check_eq rax, r10                       ; what must be 1 may be 1
    mov ecx, ebx
    expect V_GP, 0, wrmsr
    lea ecx, [rbx + 12]
    expect V_GP, 0, wrmsr
    inc ebx
    cmp ebx, 0x485
    jb .controls
    ; covers: MSR 0x48b
    mov ecx, 0x48b
    rdmsr
    check_eq rax, 0
    mov ecx, 0x48b
    expect V_GP, 0, wrmsr

    group "VMX capabilities: all others"
    ; covers: MSR 0x480, MSR 0x485, MSR 0x486, MSR 0x487, MSR 0x488, MSR 0x489, MSR 0x48a, MSR 0x48c, MSR 0x491
    ; covers: BASIC 44, BASIC 51, BASIC 52, BASIC 54, BASIC 55
    mov ecx, 0x480
    rdmsr
    check_eq rdx, 0x00d81000
    capability 0x485, 0, 0x600401e5
    capability 0x486, 0, 0x80000021
    capability 0x487, 0, 0xffffffff
    capability 0x488, 0, 0x2000
    mov ecx, 0x489
    rdmsr
    bt eax, 13
    check_true c
    capability 0x48c, 0xf01, 0x06734141
    capability 0x491, 0, 1
    mov ebx, 0x485
.others:
    mov ecx, ebx
    expect V_GP, 0, wrmsr
    inc ebx
    cmp ebx, 0x48c
    jbe .others
    mov ecx, 0x491
    expect V_GP, 0, wrmsr
    mov ecx, 0x492                          ; no tertiary controls
    expect V_GP, 0, rdmsr
    mov ecx, 0x493
    expect V_GP, 0, rdmsr

    group "VMX capabilities: fields"
    ; covers: fields
    call set_up_vmx
    mov ecx, 0x48a
    rdmsr
    shr eax, 1
    mov ebp, eax                            ; the highest index
    xor ebx, ebx                            ; index
    xor esi, esi                            ; fields there are
    xor edi, edi                            ; the highest index seen
.index:
    xor r8d, r8d                            ; type and width: bits 11:10 and 14:13
.kind:
    mov eax, r8d
    and eax, 3
    shl eax, 10
    mov edx, r8d
    shr edx, 2
    shl edx, 13
    or eax, edx
    lea r12d, [rax + rbx * 2]
    vmread r13, r12
    jbe .next
    inc esi
    mov edi, ebx
    mov r9, 0x9abcdef012345678
    vmwrite r12, r9
    vmread r10, r12
    vmwrite r12, r13
    mov edx, r8d
    shr edx, 2
    mov r9, [masks + rdx * 8]
    check_eq r10, r9
.next:
    inc r8d
    cmp r8d, 16
    jb .kind
    inc ebx
    cmp ebx, 0x40
    jb .index
    check_eq rdi, rbp
    check_eq rsi, FIELDS_OFFERED
    finish

align 8
masks: dq 0x5678, 0x9abcdef012345678, 0x12345678, 0x9abcdef012345678
