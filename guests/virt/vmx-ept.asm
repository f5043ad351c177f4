; VMX: extended page tables with their violations and misconfigurations, accessed and dirty flags, page-modification logging,
; mode-based execute control, VPIDs with INVVPID, INVEPT, EPTP switching, virtualization exceptions: SDM volume 3, "VMX
; Support for Address Translation".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

EPT_PML4        equ EPT_TABLES
EPT_PDPT        equ EPT_TABLES + 0x1000
EPT_PD          equ EPT_TABLES + 0x2000     ; of the first GiB
EPT_PT          equ EPT_TABLES + 0x3000     ; of the 2 MiB from TEST_GPA on
EPT_PML4_2      equ EPT_TABLES + 0x4000     ; another table, whose first GiB is the same but for TEST_GPA
EPT_PDPT_2      equ EPT_TABLES + 0x5000
EPT_PD_2        equ EPT_TABLES + 0x6000
EPT_PT_2        equ EPT_TABLES + 0x7000
TEST_GPA        equ 0x800000                ; 8 MiB: mapped by 4 KiB pages
PAGE_A          equ VMX_FREE + 0x10000
PAGE_B          equ VMX_FREE + 0x11000
PML_LOG         equ VMX_FREE + 0x12000
EPTP_LIST       equ VMX_FREE + 0x13000
VE_AREA         equ VMX_FREE + 0x14000
GUEST_PML4      equ VMX_FREE + 0x15000      ; paging structures of the guest, for violations on them
EPT_R           equ 1
EPT_W           equ 2
EPT_X           equ 4
EPT_WB          equ 0x30
EPT_LARGE       equ 0x80
EPT_A           equ 0x100
EPT_D           equ 0x200
EPT_UX          equ 0x400
EPT_ALL         equ EPT_R | EPT_W | EPT_X
EPTP_FLAGS      equ 0x1e                    ; write-back, four levels
EPTP_AD         equ 0x40

USER_WRITABLE   equ 0x600                   ; of the guest's own page, which it may execute: "advanced VM-exit information"

; Value of the entry that maps TEST_GPA.
%macro map_test 1
    mov rax, %1
    mov [EPT_PT], rax
%endmacro
%macro invalidate 0
    mov ecx, 2
    invept rcx, [pointer_pair]
%endmacro
; Qualification, instruction: an EPT violation at TEST_GPA
%macro violates 2+
    invalidate
    intercepted_ept R_EPT_VIOLATION, %2
    check_field EXIT_QUALIFICATION, (%1) | USER_WRITABLE
    check_field GUEST_PHYSICAL_ADDRESS, TEST_GPA
    check_field GUEST_LINEAR_ADDRESS, TEST_GPA
%endmacro
%macro intercepted_ept 2+
    jmp %%over
%%at:
    %2
    vmcall
%%over:
    run_guest_at %%at
    check_field EXIT_REASON, %1
    check_field IDT_VECTORING_INFORMATION, 0
%endmacro
%macro misconfigured 1
    map_test %1
    invalidate
    intercepted_ept R_EPT_MISCONFIGURATION, mov al, [rbx]
    check_field GUEST_PHYSICAL_ADDRESS, TEST_GPA
    check_field EXIT_QUALIFICATION, 0
%endmacro
%macro passes 1+
    invalidate
    guest_exits R_VMCALL, %1
%endmacro

main:
    go_long
  use 64
    call set_up_vmx
    call build_tables
    call ept_guest

    group "VMX EPT: translation"
    ; covers: staying instead of exit 48, staying instead of exit 49
    ; covers: EPT_VPID_CAP 6, EPT_VPID_CAP 8, EPT_VPID_CAP 14, EPT_VPID_CAP 16
    vmw EPT_POINTER, EPT_PML4 | 0x18        ; uncacheable
    mov ebx, TEST_GPA
    guest_exits R_VMCALL, nop
    vmw EPT_POINTER, EPT_PML4 | 0x1c        ; write-through: not offered
    entry_fails E_CONTROLS
    vmw EPT_POINTER, EPT_PML4 | EPTP_FLAGS
    mov byte [PAGE_A], 0xaa
    mov byte [PAGE_B], 0xbb
    mov ebx, TEST_GPA
    guest_exits R_VMCALL, movzx r8d, byte [rbx]
    check_eq r8, 0xaa
    guest_exits R_VMCALL, mov byte [rbx + 1], 0x55
    check_eq byte [PAGE_A + 1], 0x55
    map_test PAGE_B | EPT_ALL | EPT_WB
    guest_exits R_VMCALL, movzx r8d, byte [rbx]  ; the old translation may still be there; after INVEPT it is not
    passes movzx r8d, byte [rbx]
    check_eq r8, 0xbb
    mov byte [PAGE_A], 0xc3                 ; RET
    map_test PAGE_A | EPT_ALL | EPT_WB
    passes call rbx

    group "VMX EPT: violations"
    ; covers: EPT_VPID_CAP 0
    map_test 0
    violates 0x181, mov al, [rbx]
    violates 0x182, mov [rbx], al
    invalidate
    mov ecx, 1
    jmp .over_fetch
.at_fetch:
    jmp rbx
.over_fetch:
    run_guest_at .at_fetch
    check_field EXIT_REASON, R_EPT_VIOLATION
    check_field EXIT_QUALIFICATION, 0x184 | USER_WRITABLE
    check_field GUEST_RIP, TEST_GPA
    map_test PAGE_A | EPT_R | EPT_WB
    passes mov al, [rbx]
    violates 0x18a, mov [rbx], al
    check_field GUEST_RFLAGS, FLAG_RF | 2
    violates 0x18a, add [rbx], al           ; read-modify-write counts as a write
    run_guest_at .at_fetch
    check_field EXIT_QUALIFICATION, 0x18c | USER_WRITABLE
    map_test PAGE_A | EPT_X | EPT_WB        ; execute only
    violates 0x1a1, mov al, [rbx]
    violates 0x1a2, mov [rbx], al
    passes call rbx
    map_test PAGE_A | EPT_R | EPT_X | EPT_WB
    violates 0x1aa, mov [rbx], al
    map_test PAGE_A | EPT_ALL | EPT_WB
    and byte [EPT_PD + (TEST_GPA / 0x200000) * 8], ~EPT_W   ; rights are combined
    violates 0x1aa, mov [rbx], al
    or byte [EPT_PD + (TEST_GPA / 0x200000) * 8], EPT_W
    passes mov [rbx], al
    mov byte [PAGE_A], 0xc3
    ; Beyond what the tables map
    mov rax, cr3
    mov rbx, 1 << 39
    mov rcx, [PAGE_TABLES]
    mov [PAGE_TABLES + 8], rcx              ; PML4 entry 1: the same once more
    mov rcx, [PAGE_TABLES + 0x1000]
    mov rcx, 0xff0000000 | PTE_P | PTE_W
    mov [PAGE_TABLES + 0x2000 + 0x10 * 8], rcx  ; 32 MiB is nowhere near any table
    or byte [PAGE_TABLES + 0x2000 + 0x10 * 8], PTE_PS
    mov cr3, rax
    mov ebx, 0x2000123
    invalidate
    intercepted_ept R_EPT_VIOLATION, mov al, [rbx]
    check_field EXIT_QUALIFICATION, 0x581    ; a supervisor page
    check_field GUEST_PHYSICAL_ADDRESS, 0xff0000123
    check_field GUEST_LINEAR_ADDRESS, 0x2000123
    mov rcx, 0x2000000 | PTE_P | PTE_W | PTE_U | PTE_PS
    mov [PAGE_TABLES + 0x2000 + 0x10 * 8], rcx
    mov cr3, rax
    mov ebx, TEST_GPA

    group "VMX EPT: what violations tell of the guest's page"
    ; covers: EPT_VPID_CAP 22
    map_test 0
%macro tells 3                              ; bits of the guest's entry cleared and set, qualification
    mov rax, [PAGE_TABLES + 0x2000 + (TEST_GPA >> 21) * 8]
    push rax
    and al, ~(%1)
    mov rcx, %2
    or rax, rcx
    mov [PAGE_TABLES + 0x2000 + (TEST_GPA >> 21) * 8], rax
    mov rax, cr3
    mov cr3, rax
    invalidate
    intercepted_ept R_EPT_VIOLATION, mov al, [rbx]
    check_field EXIT_QUALIFICATION, %3
    pop rax
    mov [PAGE_TABLES + 0x2000 + (TEST_GPA >> 21) * 8], rax
    mov rax, cr3
    mov cr3, rax
%endmacro
    tells 0, 0, 0x781
    tells PTE_U, 0, 0x581
    tells PTE_W, 0, 0x381
    tells PTE_U | PTE_W, 1 << 63, 0x981
    call build_guest_tables                 ; nothing where a table itself cannot be read
    vmw GUEST_CR3, TEST_GPA
    invalidate
    intercepted_ept R_EPT_VIOLATION, nop
    check_field EXIT_QUALIFICATION, 0x81
    mov rax, cr3
    vmw GUEST_CR3, rax
    map_test PAGE_A | EPT_ALL | EPT_WB

    group "VMX EPT: misconfigurations"
    misconfigured PAGE_A | EPT_W | EPT_WB
    misconfigured PAGE_A | EPT_W | EPT_X | EPT_WB
    misconfigured PAGE_A | EPT_ALL | 0x10   ; memory type 2
    misconfigured PAGE_A | EPT_ALL | 0x38
    misconfigured (1 << 46) | PAGE_A | EPT_ALL | EPT_WB
    map_test PAGE_A | EPT_ALL | EPT_WB
    or byte [EPT_PDPT], 0x40                ; reserved where a table is referenced
    invalidate
    intercepted_ept R_EPT_MISCONFIGURATION, nop
    and byte [EPT_PDPT], ~0x40
    or byte [EPT_PML4], EPT_LARGE
    invalidate
    intercepted_ept R_EPT_MISCONFIGURATION, nop
    and byte [EPT_PML4], ~EPT_LARGE
    or dword [EPT_PD], 0x1000               ; within a 2 MiB page
    invalidate
    intercepted_ept R_EPT_MISCONFIGURATION, nop
    and dword [EPT_PD], ~0x1000
    passes nop

    group "VMX EPT: pages of 1 GiB"
    ; covers: EPT_VPID_CAP 17
    mov rax, [EPT_PDPT]
    push rax
    mov qword [EPT_PDPT], EPT_ALL | EPT_WB | EPT_LARGE
    passes mov [rbx], al
    mov qword [EPT_PDPT], EPT_ALL | EPT_WB | EPT_LARGE | 0x200000
    invalidate
    intercepted_ept R_EPT_MISCONFIGURATION, nop
    pop rax
    mov [EPT_PDPT], rax

    group "VMX EPT: violations on the guest's paging structures"
    call build_guest_tables
    vmw GUEST_CR3, TEST_GPA
    map_test GUEST_PML4 | EPT_ALL | EPT_WB
    passes nop
    map_test 0
    invalidate
    intercepted_ept R_EPT_VIOLATION, nop
    check_field EXIT_QUALIFICATION, 0x81    ; the linear address is that of the code, not TEST_GPA
    check_field GUEST_PHYSICAL_ADDRESS, TEST_GPA
    vmr rax, GUEST_RIP
    check_field GUEST_LINEAR_ADDRESS, rax
    and byte [GUEST_PML4], ~PTE_A
    map_test GUEST_PML4 | EPT_R | EPT_WB
    invalidate
    intercepted_ept R_EPT_VIOLATION, nop    ; the accessed flag is to be written
    vmr rax, EXIT_QUALIFICATION
    and eax, 0x1fa
    check_eq rax, 0x8a
    or byte [GUEST_PML4], PTE_A
    passes nop
    ; With accessed and dirty flags for EPT, reads of paging structures are writes.
    call track_use
    and dword [EPT_PT], ~(EPT_A | EPT_D)
    intercepted_ept R_EPT_VIOLATION, nop
    check_field EXIT_QUALIFICATION, 0x8b
    mov rax, cr3
    vmw GUEST_CR3, rax

    group "VMX EPT: accessed and dirty flags"
    ; covers: EPT_VPID_CAP 21
    map_test PAGE_A | EPT_ALL | EPT_WB
    passes mov al, [rbx]
    mov eax, [EPT_PT]
    and eax, EPT_A | EPT_D
    check_eq rax, EPT_A
    passes mov [rbx], al
    mov eax, [EPT_PT]
    and eax, EPT_A | EPT_D
    check_eq rax, EPT_A | EPT_D
    mov eax, [EPT_PD]
    and eax, EPT_A
    check_eq rax, EPT_A
    and dword [EPT_PT], ~(EPT_A | EPT_D)
    invalidate
    jmp .over_dirty                         ; read, then write: the translation that the read left is not enough
.at_dirty:
    mov al, [rbx]
    mov [rbx], al
    vmcall
.over_dirty:
    run_guest_at .at_dirty
    check_field EXIT_REASON, R_VMCALL
    mov eax, [EPT_PT]
    and eax, EPT_A | EPT_D
    check_eq rax, EPT_A | EPT_D

    group "VMX EPT: page-modification logging"
    enable SECONDARY, SEC_PML
    vmw PML_ADDRESS, PML_LOG
    vmw PML_INDEX, 511
    mov dword [EPT_PT + 8], (PAGE_B) | EPT_ALL | EPT_WB
    and dword [EPT_PT], ~EPT_D
    call settle_pml
    and dword [EPT_PT], ~EPT_D
    vmw PML_INDEX, 1
    invalidate
    jmp .over_log
.at_log:
    mov [rbx + 0x123], al
    mov [rbx + 0x1123], al
    mov [rbx + 0x124], al
    vmcall
.over_log:
    ; covers: staying instead of exit 62
    run_guest_at .at_log
    check_field EXIT_REASON, R_VMCALL
    check_field PML_INDEX, 0xffff
    check_eq qword [PML_LOG + 8], TEST_GPA
    check_eq qword [PML_LOG], TEST_GPA + 0x1000
    and dword [EPT_PT], ~EPT_D
    invalidate
    intercepted_ept R_PML_FULL, mov [rbx], al
    check_field EXIT_QUALIFICATION, 0
    mov eax, [EPT_PT]
    and eax, EPT_D
    check_eq rax, 0
    disable SECONDARY, SEC_PML

    group "VMX EPT: mode-based execute control"
    call ept_guest
    enable SECONDARY, SEC_MODE_EXECUTE
    call user_execute_everywhere
    mov byte [PAGE_A], 0xc3
    map_test PAGE_A | EPT_R | EPT_W | EPT_WB | EPT_UX
    passes call rbx                         ; go_long maps everything for users: bit 10 decides
    map_test PAGE_A | EPT_ALL | EPT_WB
    invalidate
    run_guest_at .at_fetch
    check_field EXIT_REASON, R_EPT_VIOLATION
    check_field EXIT_QUALIFICATION, 0x1bc | USER_WRITABLE
    map_test PAGE_A | EPT_R | EPT_W | EPT_WB | EPT_UX
    call test_page_for_supervisor
    invalidate
    run_guest_at .at_fetch
    check_field EXIT_REASON, R_EPT_VIOLATION
    check_field EXIT_QUALIFICATION, 0x1dc | 0x400   ; bit 6: user-mode addresses may be executed
    map_test PAGE_A | EPT_ALL | EPT_WB
    passes call rbx
    call test_page_for_users

    group "VMX EPT: VPIDs"
    ; covers: EPT_VPID_CAP 32, EPT_VPID_CAP 40, EPT_VPID_CAP 41, EPT_VPID_CAP 42, EPT_VPID_CAP 43
    call ept_guest
    enable SECONDARY, SEC_VPID
    vmw VIRTUAL_PROCESSOR_ID, 5
    map_test PAGE_A | EPT_ALL | EPT_WB
    passes mov [rbx], al
    mov qword [pointer_pair], 5
    mov qword [pointer_pair + 8], TEST_GPA
    xor ecx, ecx
    succeeds invvpid rcx, [pointer_pair]
    mov ecx, 1
    succeeds invvpid rcx, [pointer_pair]
    mov ecx, 3
    succeeds invvpid rcx, [pointer_pair]
    mov ecx, 2
    succeeds invvpid rcx, [pointer_pair]
    mov ecx, 4
    fails E_OPERAND, invvpid rcx, [pointer_pair]
    mov ecx, 1
    mov qword [pointer_pair], 0               ; VPID 0
    fails E_OPERAND, invvpid rcx, [pointer_pair]
    mov qword [pointer_pair], 0x10005
    fails E_OPERAND, invvpid rcx, [pointer_pair]
    mov qword [pointer_pair], 5
    mov rax, 1 << 47
    mov [pointer_pair + 8], rax
    xor ecx, ecx
    fails E_OPERAND, invvpid rcx, [pointer_pair]
    mov qword [pointer_pair + 8], 0
    ; A translation that the guest's tables no longer have: INVVPID forgets it, another VPID never had it.
    call build_guest_tables
    vmw GUEST_CR3, GUEST_PML4
    guest_exits R_VMCALL, movzx r8d, byte [rbx]
    check_eq r8, 0xc3
    mov qword [GUEST_PML4 + 0x3000], (PAGE_B) | PTE_P | PTE_W | PTE_U
    mov ecx, 1
    invvpid rcx, [pointer_pair]
    guest_exits R_VMCALL, movzx r8d, byte [rbx]
    check_eq r8, 0xbb
    mov qword [GUEST_PML4 + 0x3000], (PAGE_A) | PTE_P | PTE_W | PTE_U
    vmw VIRTUAL_PROCESSOR_ID, 6
    guest_exits R_VMCALL, movzx r8d, byte [rbx]
    check_eq r8, 0xc3
    disable SECONDARY, SEC_VPID             ; without VPIDs each entry begins anew
    mov qword [GUEST_PML4 + 0x3000], (PAGE_B) | PTE_P | PTE_W | PTE_U
    guest_exits R_VMCALL, movzx r8d, byte [rbx]
    check_eq r8, 0xbb

    group "VMX EPT: INVEPT"
    ; covers: EPT_VPID_CAP 20, EPT_VPID_CAP 25, EPT_VPID_CAP 26
    mov rax, EPT_PML4 | EPTP_FLAGS
    mov [pointer_pair], rax
    mov ecx, 1
    succeeds invept rcx, [pointer_pair]
    mov ecx, 2
    succeeds invept rcx, [pointer_pair]
    mov ecx, 3
    fails E_OPERAND, invept rcx, [pointer_pair]
    mov ecx, 1
    mov qword [pointer_pair], 1
    fails E_OPERAND, invept rcx, [pointer_pair]
    mov qword [pointer_pair], 0

    group "VMX EPT: EPTP switching"
    call ept_guest
    map_test PAGE_A | EPT_ALL | EPT_WB
    mov rax, PAGE_B | EPT_ALL | EPT_WB
    mov [EPT_PT_2], rax
    mov qword [EPTP_LIST], EPT_PML4 | EPTP_FLAGS
    mov qword [EPTP_LIST + 8], EPT_PML4_2 | EPTP_FLAGS
    mov qword [EPTP_LIST + 16], 7
    vmw EPTP_LIST_ADDRESS, EPTP_LIST
    vmw EXCEPTION_BITMAP, 1 << V_UD
    xor eax, eax
    mov ecx, 1
    guest_faults V_UD, 0, vmfunc
    enable SECONDARY, SEC_VMFUNC
    vmw VM_FUNCTION_CONTROLS, 0
    intercepted R_VMFUNC, vmfunc
    vmw VM_FUNCTION_CONTROLS, 1
    invalidate
    mov ecx, 1
    jmp .over_switch
.at_switch:
    movzx r8d, byte [rbx]
    vmfunc
    movzx r9d, byte [rbx]
    xor ecx, ecx
    vmfunc
    movzx r10d, byte [rbx]
    vmcall
.over_switch:
    xor eax, eax
    run_guest_at .at_switch
    check_field EXIT_REASON, R_VMCALL
    check_eq r8, 0xc3
    check_eq r9, 0xbb
    check_eq r10, 0xc3
    check_field EPT_POINTER, EPT_PML4 | EPTP_FLAGS
    mov ecx, 2
    intercepted R_VMFUNC, vmfunc            ; not a valid pointer
    mov ecx, 512
    intercepted R_VMFUNC, vmfunc
    mov ecx, 1
    mov eax, 1
    intercepted R_VMFUNC, vmfunc
    xor eax, eax
    executed vmfunc
    check_field EPT_POINTER, EPT_PML4_2 | EPTP_FLAGS

    group "VMX EPT: virtualization exceptions"
    call ept_guest
    enable SECONDARY, SEC_VE
    vmw VIRTUALIZATION_EXCEPTION_ADDRESS, VE_AREA
    vmw EPTP_INDEX, 3
    mov qword [VE_AREA], 0
    map_test 0
    mov dword [event.vector], NONE
    mov qword [armed.resume], .after_ve
    mov qword [armed.sp], GUEST_STACK_TOP
    invalidate
    jmp .over_ve
.at_ve:
    mov [rbx], al
.after_ve:
    vmcall
.over_ve:
    run_guest_at .at_ve
    mov dword [armed.resume], 0
    check_field EXIT_REASON, R_VMCALL
    check_d [event.vector], 20
    check_eq qword [event.ip], .at_ve
    check_d [VE_AREA], R_EPT_VIOLATION
    check_d [VE_AREA + 4], 0xffffffff
    check_eq qword [VE_AREA + 8], 0x182 | USER_WRITABLE
    check_eq qword [VE_AREA + 16], TEST_GPA
    check_eq qword [VE_AREA + 24], TEST_GPA
    check_d [VE_AREA + 32], 3
    violates 0x182, mov [rbx], al           ; the area is still busy
    mov dword [VE_AREA + 4], 0
    vmw EXCEPTION_BITMAP, 1 << 20
    run_guest_at .at_ve
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | 20
    mov dword [VE_AREA + 4], 0
    bts qword [EPT_PT], 63                  ; suppressed
    violates 0x182, mov [rbx], al
    mov qword [EPT_PT], 0
    call ept_guest

    group "VMX EPT: violations while an event is delivered"
    vmw GUEST_RSP, TEST_GPA + 0x800
    map_test 0
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD
    invalidate
    run_guest_at main
    check_field EXIT_REASON, R_EPT_VIOLATION
    check_field EXIT_QUALIFICATION, 0x182 | USER_WRITABLE
    check_field GUEST_PHYSICAL_ADDRESS, TEST_GPA + 0x7f8
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD
    check_field GUEST_RIP, main
    finish

; The first GiB by 2 MiB pages, TEST_GPA to TEST_GPA + 2 MiB by 4 KiB pages; APIC and all else is not mapped. Two tables.
build_tables:
    mov edi, EPT_TABLES
    mov ecx, 0x8000 / 8
    xor eax, eax
    rep stosq
    mov qword [EPT_PML4], EPT_PDPT | EPT_ALL
    mov qword [EPT_PDPT], EPT_PD | EPT_ALL
    mov qword [EPT_PML4_2], EPT_PDPT_2 | EPT_ALL
    mov qword [EPT_PDPT_2], EPT_PD_2 | EPT_ALL
    mov eax, EPT_ALL | EPT_WB | EPT_LARGE
    xor ecx, ecx
.directory:
    mov [EPT_PD + rcx * 8], rax
    mov [EPT_PD_2 + rcx * 8], rax
    add rax, 0x200000
    inc ecx
    cmp ecx, 512
    jb .directory
    mov qword [EPT_PD + (TEST_GPA / 0x200000) * 8], EPT_PT | EPT_ALL
    mov qword [EPT_PD_2 + (TEST_GPA / 0x200000) * 8], EPT_PT_2 | EPT_ALL
    mov qword [EPT_PT], PAGE_A | EPT_ALL | EPT_WB
    mov qword [EPT_PT_2], PAGE_B | EPT_ALL | EPT_WB
    ret

ept_guest:
    fresh_guest
    enable SECONDARY, SEC_EPT
    vmw EPT_POINTER, EPT_PML4 | EPTP_FLAGS
    invalidate
    ret

track_use:
    vmw EPT_POINTER, EPT_PML4 | EPTP_FLAGS | EPTP_AD
    invalidate
    ret

; Lets the pages that every run writes to become dirty before a log is looked at.
settle_pml:
    guest_exits R_VMCALL, push rax
    guest_exits R_VMCALL, mov [rbx], al
    ret

user_execute_everywhere:
    mov ecx, 512 * 2
.next:
    or dword [EPT_PML4 + rcx * 8 - 8], EPT_UX
    loop .next
    and dword [EPT_PML4 + 8], 0             ; what was not present stays so
    mov edi, EPT_PML4 + 8
    mov ecx, 511
    xor eax, eax
    rep stosq
    mov edi, EPT_PDPT + 8
    mov ecx, 511
    rep stosq
    xor ecx, ecx
.directory:
    or dword [EPT_PD + rcx * 8], EPT_UX
    inc ecx
    cmp ecx, 512
    jb .directory
    invalidate
    ret

; The guest's page at TEST_GPA by a 4 KiB page that users cannot reach, and back.
test_page_for_supervisor:
    mov rax, (TEST_GPA) | PTE_P | PTE_W | PTE_PS
    jmp set_test_page
test_page_for_users:
    mov rax, (TEST_GPA) | PTE_P | PTE_W | PTE_U | PTE_PS
set_test_page:
    mov [PAGE_TABLES + 0x2000 + (TEST_GPA / 0x200000) * 8], rax
    mov rax, cr3
    mov cr3, rax
    ret

; Paging structures of the guest: PML4, PDPT, PD (2 MiB pages) and a PT for TEST_GPA, whose first page is PAGE_A.
build_guest_tables:
    mov edi, GUEST_PML4
    mov ecx, 0x4000 / 8
    xor eax, eax
    rep stosq
    mov qword [GUEST_PML4], (GUEST_PML4 + 0x1000) | PTE_P | PTE_W | PTE_U | PTE_A
    mov qword [GUEST_PML4 + 0x1000], (GUEST_PML4 + 0x2000) | PTE_P | PTE_W | PTE_U | PTE_A
    mov eax, PTE_P | PTE_W | PTE_U | PTE_PS | PTE_A | PTE_D
    xor ecx, ecx
.next:
    mov [GUEST_PML4 + 0x2000 + rcx * 8], rax
    add rax, 0x200000
    inc ecx
    cmp ecx, 512
    jb .next
    mov qword [GUEST_PML4 + 0x2000 + (TEST_GPA / 0x200000) * 8], (GUEST_PML4 + 0x3000) | PTE_P | PTE_W | PTE_U | PTE_A
    mov qword [GUEST_PML4 + 0x3000], (PAGE_A) | PTE_P | PTE_W | PTE_U
    mov byte [PAGE_A], 0xc3
    mov byte [PAGE_B], 0xbb
    ret

align 16
pointer_pair: dq 0, 0
