; SVM: time stamps, filters of PAUSE, virtual VMLOAD and VMSAVE, INVLPGA, task switches, clean bits: AMD APM volume 2,
; "TSC Offset", "Pause Intercept Filtering", "VMSAVE and VMLOAD Virtualization", "Task Switch Intercept".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

; TSC as 64 bits in RAX. Changes RDX.
%macro time 0
    rdtsc
    shl rdx, 32
    or rax, rdx
%endmacro
GUEST_VMCB          equ SVM_FREE
HIGH_ALIAS          equ 0x8000000000    ; 2 MiB at SVM_FREE, once more, by 4 KiB pages
ALIAS_PDPT          equ SVM_FREE + 0x8000
ALIAS_PD            equ SVM_FREE + 0x9000
ALIAS_PT            equ SVM_FREE + 0xa000
TASK_B              equ GDT_FREE
TASK_GATE           equ GDT_FREE + 8
TASK_STATE_B        equ SVM_FREE + 0x4000

main:
    go_long
  use 64
    call set_up_svm

    group "SVM: time stamp counter"
    ; covers: SVM tsc_scale, MSR TSC_RATIO
    mov rax, 0x1000000000
    mov [TSC_OFFSET], rax
    jmp .over_time
.time:
    time
    mov rbx, rax
    mov ecx, 0x10
    rdmsr
    shl rdx, 32
    or rax, rdx
    mov rsi, rax
    vmmcall
.over_time:
    time
    mov rdi, rax
    run_guest_at .time
    time
    mov r14, 0x1000000000
    sub rbx, r14
    cmp rbx, rdi
    check_true ae
    cmp rbx, rax
    check_true be
    sub rsi, r14
    cmp rsi, rax
    check_true be
    cmp rsi, rbx
    check_true ae
    mov rax, -0x1000
    mov [TSC_OFFSET], rax
    time
    mov rdi, rax
    run_guest_at .time
    add rbx, 0x1000
    cmp rbx, rdi
    check_true ae
    fresh_guest
    mov ecx, MSR_TSC_RATIO
    mov eax, 0
    mov edx, 0x100
    expect V_GP, 0, wrmsr               ; reserved bits
    write_msr MSR_TSC_RATIO, 4, 0x40000000  ; 4.25 times as fast
    check_msr MSR_TSC_RATIO, 4, 0x40000000
    time
    mov rdi, rax
    run_guest_at .time
    time
    imul rdi, rdi, 17
    shr rdi, 2
    imul rax, rax, 17
    shr rax, 2
    cmp rbx, rdi
    check_true ae
    cmp rbx, rax
    check_true be
    write_msr MSR_TSC_RATIO, 1, 0
    mov rax, 0x100
    mov [TSC_OFFSET], rax               ; not while the host runs
    time
    mov rdi, rax
    time
    sub rax, rdi
    cmp rax, 0x10000
    check_true b

    group "SVM: filters of PAUSE"
    ; covers: SVM pausefilter, SVM pfthreshold
%macro pausing_guest 2                  ; PAUSEs let through, threshold
    fresh_guest
    intercept I_PAUSE
    mov word [PAUSE_COUNT], %1
    mov word [PAUSE_THRESHOLD], %2
    xor ebx, ebx
%endmacro
    jmp .over_pause
.pauses:
    pause
    inc ebx
    cmp ebx, 20
    jb .pauses
    vmmcall
.over_pause:
    pausing_guest 0, 0
    run_guest_at .pauses
    check_eq qword [EXITCODE], EXIT(I_PAUSE)
    check_eq rbx, 0
    pausing_guest 7, 0
    run_guest_at .pauses
    check_eq qword [EXITCODE], EXIT(I_PAUSE)
    check_eq rbx, 7
    pausing_guest 7, 0xffff             ; close together
    run_guest_at .pauses
    check_eq rbx, 7
    pausing_guest 7, 1                  ; far apart: each starts the count anew
    run_guest_at .pauses
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 20
    pausing_guest 7, 0
    admit I_PAUSE
    run_guest_at .pauses
    check_eq qword [EXITCODE], EXIT_VMMCALL

    group "SVM: virtual VMLOAD and VMSAVE"
    ; covers: SVM v_vmsave_vmload
    mov edi, GUEST_VMCB
    mov ecx, 0x2000 / 8
    xor eax, eax
    rep stosq
    call nested_identity
    mov qword [NESTED_TABLES + 0x2000 + (GUEST_VMCB >> 21) * 8], (NESTED_TABLES + 0x6000) | PTE_P | PTE_W | PTE_U
    mov edi, NESTED_TABLES + 0x6000
    mov eax, 0x200000 | PTE_P | PTE_W | PTE_U
.small:
    mov [rdi], rax
    add rax, 0x1000
    add edi, 8
    cmp edi, NESTED_TABLES + 0x7000
    jb .small
%define SMALL_ENTRY(address) NESTED_TABLES + 0x6000 + (((address) >> 12) & 0x1ff) * 8
    mov qword [SMALL_ENTRY(GUEST_VMCB)], (GUEST_VMCB + 0x1000) | PTE_P | PTE_W | PTE_U   ; elsewhere
    mov dword [GUEST_VMCB + 0x1600], 0x1234     ; STAR
    fresh_guest
    mov qword [NESTED_CTL], 1
    mov qword [N_CR3], NESTED_TABLES
    mov qword [VIRT_EXT], 2
    mov qword [SAVE_RAX], GUEST_VMCB
    executed vmload
    check_msr MSR_STAR, 0, 0x1234
    write_msr MSR_STAR, 0, 0x5678
    executed vmsave
    check_d [GUEST_VMCB + 0x1600], 0x5678
    check_d [GUEST_VMCB + 0x600], 0
    and qword [SMALL_ENTRY(GUEST_VMCB)], ~PTE_P
    guest_exits EXIT_NPF, vmload
    check_q qword [EXITINFO1], (1 << 32) | PF_U
    check_eq qword [EXITINFO2], GUEST_VMCB
    guest_exits EXIT_NPF, vmsave
    check_q qword [EXITINFO1], (1 << 32) | PF_U | PF_W
    intercept I_VMLOAD                          ; the intercept goes before
    guest_exits EXIT(I_VMLOAD), vmload
    fresh_guest
    mov qword [SAVE_RAX], OTHER_VMCB            ; without it the address is the host's
    mov dword [OTHER_VMCB + 0x600], 0x4321
    executed vmload
    check_msr MSR_STAR, 0, 0x4321
    mov eax, VMCB_IMAGE
    vmload

    group "SVM: INVLPGA"
    mov edi, ALIAS_PDPT
    mov ecx, 0x3000 / 8
    xor eax, eax
    rep stosq
    mov dword [PAGE_TABLES + 8], ALIAS_PDPT | PTE_P | PTE_W
    mov dword [ALIAS_PDPT], ALIAS_PD | PTE_P | PTE_W
    mov dword [ALIAS_PD], ALIAS_PT | PTE_P | PTE_W
    mov dword [ALIAS_PT], SVM_FREE | PTE_P | PTE_W
    mov dword [SVM_FREE], 1
    mov dword [SVM_FREE + 0x1000], 2
    mov rsi, HIGH_ALIAS
    fresh_guest
    guest_exits EXIT_VMMCALL, mov ebx, [rsi]
    check_eq rbx, 1
    mov dword [ALIAS_PT], (SVM_FREE + 0x1000) | PTE_P | PTE_W
    mov rax, rsi
    mov ecx, [ASID]
    invlpga
    guest_exits EXIT_VMMCALL, mov ebx, [rsi]
    check_eq rbx, 2
    mov eax, [rsi]
    check_eq rax, 2
    mov dword [ALIAS_PT], SVM_FREE | PTE_P | PTE_W
    mov rax, rsi
    xor ecx, ecx                                ; the host's
    invlpga
    mov eax, [rsi]
    check_eq rax, 1

    group "SVM: task switches"
    set_descriptor TASK_B, TASK_STATE_B, 0x67, ACCESS_TSS32, 0
    mov dword [gdt + TASK_GATE], TASK_B << 16
    mov dword [gdt + TASK_GATE + 4], ACCESS_TASK_GATE << 8
    own_table
    and dword [SAVE_CR0], ~CR0_PG & 0xffffffff
    mov qword [SAVE_EFER], EFER_SVME
    mov word [SAVE_CS], CODE32
    mov word [SAVE_CS + 2], 0xc9b
    intercept I_TASK_SWITCH
    jmp .over_tasks
  bits 32
.jumps:
    jmp TASK_B:0
.after_jump:
.calls:
    call TASK_GATE:0
.after_call:
.returns:
    iretd
.raises:
    int 0x42
.after_raise:
.faults:
    mov ds, eax
  bits 64
.over_tasks:
    run_guest_at .jumps
    check_eq qword [EXITCODE], EXIT(I_TASK_SWITCH)
    check_eq qword [EXITINFO1], TASK_B
    check_q qword [EXITINFO2], 1 << 38
    check_eq qword [SAVE_RIP], .jumps
    check_eq qword [NRIP], .after_jump
    run_guest_at .calls
    check_eq qword [EXITCODE], EXIT(I_TASK_SWITCH)
    check_eq qword [EXITINFO1], TASK_B
    check_eq qword [EXITINFO2], 0
    check_eq qword [NRIP], .after_call
    mov qword [SAVE_RFLAGS], FLAG_NT | 2
    mov word [task_state], TASK_B
    or byte [gdt + TASK_B + 5], 2               ; busy: it can be returned to
    run_guest_at .returns
    check_eq qword [EXITCODE], EXIT(I_TASK_SWITCH)
    check_eq qword [EXITINFO1], TASK_B
    check_q qword [EXITINFO2], 1 << 36
    and byte [gdt + TASK_B + 5], ~2
    mov qword [SAVE_RFLAGS], 2
    mov dword [GUEST_IDT + 0x42 * 8], TASK_B << 16
    mov dword [GUEST_IDT + 0x42 * 8 + 4], ACCESS_TASK_GATE << 8
    run_guest_at .raises
    check_eq qword [EXITCODE], EXIT(I_TASK_SWITCH)
    check_eq qword [EXITINFO2], 0
    check_d [EXITINTINFO], EVENT_VALID | EVENT_SOFTWARE | 0x42
    check_eq qword [SAVE_RIP], .raises
    mov dword [GUEST_IDT + V_GP * 8], TASK_B << 16
    mov dword [GUEST_IDT + V_GP * 8 + 4], ACCESS_TASK_GATE << 8
    mov qword [SAVE_RAX], 0xfff8
    run_guest_at .faults
    check_eq qword [EXITCODE], EXIT(I_TASK_SWITCH)
    check_eq qword [EXITINFO1], TASK_B
    mov rax, (1 << 44) | 0xfff8
    check_eq qword [EXITINFO2], rax
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_GP
    check_eq qword [SAVE_RIP], .faults

    group "SVM: clean bits are a promise of the hypervisor's only"
    ; covers: SVM vmcb_clean
    fresh_guest
    mov dword [CLEAN], 0xfff
    mov qword [SAVE_RAX], 0x1357
    guest_exits EXIT_VMMCALL, mov rbx, rax
    check_eq rbx, 0x1357
    finish
