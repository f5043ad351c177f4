; 4-level paging: 1 GiB and 2 MiB pages, rights of all levels, no-execute, canonical addresses, PCID, INVPCID, protection
; keys, SMEP and SMAP in IA-32e mode: SDM volume 3, "4-Level Paging", "Access Rights" and "Caching Translation
; Information".
%include "guest.inc"

TOP         equ PAGE_TABLES             ; go_long's PML4
POINTERS    equ PAGE_TABLES + 0x7000    ; for the tests: second 512 GiB
DIRECTORY   equ PAGE_TABLES + 0x8000
TABLE       equ PAGE_TABLES + 0x9000
TOP_B       equ PAGE_TABLES + 0xa000    ; another address space
POINTERS_B  equ PAGE_TABLES + 0xb000
WINDOW      equ 0x8000000000
TARGET      equ 0x600000
RWU         equ PTE_P | PTE_W | PTE_U

%macro window 1                 ; bits of the page-table entry
    mov rax, TARGET | (%1)
    mov [TABLE], rax
    invlpg [rbx]
%endmacro
%macro expect_fault 3+.nolist
    expect V_PF, %1, %3
    mov rax, %2
    check_eq [event.cr2], rax
%endmacro
%macro user_fault 3+.nolist
    user_expect V_PF, %1, %3
    mov rax, %2
    check_eq [event.cr2], rax
%endmacro
%macro set_cr4 1
    mov rax, cr4
    or rax, %1
    mov cr4, rax
%endmacro
%macro clear_cr4 1
    mov rax, cr4
    and rax, ~(%1)
    mov cr4, rax
%endmacro
; The event must be this fault at RBX + 0x10.
%macro check_fetch 1.nolist
    check_eq [event.vector], V_PF
    check_eq [event.error], %1
    lea rax, [rbx + 0x10]
    check_eq [event.ip], rax
    check_eq [event.cr2], rax
%endmacro
%macro call_window 0            ; at level 0; a fault is left for `check_fetch`
    mov qword [armed.resume], %%after
    mov [armed.sp], rsp
    mov qword [event.vector], NONE
    lea rax, [rbx + 0x10]
    call rax
%%after:
    mov qword [armed.resume], 0
%endmacro
%macro user_call_window 0
    mov qword [armed.resume], %%after
    mov [armed.sp], rsp
    mov qword [event.vector], NONE
    lea rax, [rbx + 0x10]
    call to_user_64
    call rax
    int USER_DONE
%%after:
    mov qword [armed.resume], 0
%endmacro

main:
    mov edi, POINTERS
    mov ecx, 0x5000 / 4
    xor eax, eax
    rep stosd
    go_long
    mov qword [TOP + 8], POINTERS | RWU
    mov qword [POINTERS], DIRECTORY | RWU
    mov qword [DIRECTORY], TABLE | RWU
    mov dword [TARGET], 0x11111111
    mov byte [TARGET + 0x10], 0xc3
    mov rbx, WINDOW

    group "rights"
    window 0
    expect_fault 0, WINDOW, mov eax, [rbx]
    expect_fault PF_W, WINDOW + 4, mov [rbx + 4], eax
    user_fault PF_U, WINDOW, mov eax, [rbx]
    call_window
    check_fetch PF_I
    user_call_window
    check_fetch PF_I | PF_U
    window RWU
    user_run mov eax, [rbx]
    check_eq rax, 0x11111111
    user_call_window
    check_eq [event.vector], USER_DONE
    window PTE_P | PTE_W
    user_fault PF_P | PF_U, WINDOW, mov eax, [rbx]
    window PTE_P | PTE_U
    user_fault PF_P | PF_U | PF_W, WINDOW, mov [rbx], eax
    expect_nothing mov [rbx + 8], eax
    mov rax, cr0
    bts rax, 16
    mov cr0, rax
    expect_fault PF_P | PF_W, WINDOW + 8, mov [rbx + 8], eax
    btr rax, 16
    mov rax, cr0
    btr rax, 16
    mov cr0, rax
    window RWU
    ; each level can take away
%macro upper_level 2            ; entry, its usual value
    mov qword [%1], %2 & ~PTE_W
    invlpg [rbx]
    user_fault PF_P | PF_U | PF_W, WINDOW, mov [rbx], eax
    mov qword [%1], %2 & ~PTE_U
    invlpg [rbx]
    user_fault PF_P | PF_U, WINDOW, mov eax, [rbx]
    mov qword [%1], %2 & ~PTE_P
    invlpg [rbx]
    user_fault PF_U, WINDOW, mov eax, [rbx]
    mov dword [%1 + 4], 0x80000000
    mov dword [%1], %2
    invlpg [rbx]
    call_window
    check_fetch PF_P | PF_I
    user_run mov eax, [rbx]
    mov dword [%1 + 4], 0x00080000
    invlpg [rbx]
    user_fault PF_P | PF_U | PF_R, WINDOW, mov eax, [rbx]
    mov qword [%1], %2
    invlpg [rbx]
    user_run mov [rbx + 8], eax
    mov eax, [%1]
    and eax, PTE_A
    check_eq rax, PTE_A
%endmacro
    upper_level TOP + 8, POINTERS | RWU
    upper_level POINTERS, DIRECTORY | RWU
    upper_level DIRECTORY, TABLE | RWU
    upper_level TABLE, TARGET | RWU
    mov qword [TOP + 8], POINTERS | RWU | PTE_PS        ; no pages of 512 GiB
    invlpg [rbx]
    expect_fault PF_P | PF_R, WINDOW, mov eax, [rbx]
    mov qword [TOP + 8], POINTERS | RWU

    group "pages of 2 MiB and 1 GiB"
    ; covers: CPUID pdpe1gb
    mov qword [DIRECTORY + 8], TARGET | RWU | PTE_PS
    lea rsi, [rbx + 0x200000]
    mov eax, [rsi]
    check_eq rax, 0x11111111
    mov qword [DIRECTORY + 8], TARGET | RWU | PTE_PS | (1 << 20)
    invlpg [rsi + 0x100000]
    mov rcx, WINDOW + 0x200000
    expect_fault PF_P | PF_R, rcx, mov eax, [rsi]
    mov qword [DIRECTORY + 8], TARGET | RWU | PTE_PS | (1 << 12)
    mov eax, [rsi]
    mov [rsi + 8], eax
    mov eax, [DIRECTORY + 8]
    and eax, PTE_A | PTE_D
    check_eq rax, PTE_A | PTE_D
    mov qword [POINTERS + 8], RWU | PTE_PS
    mov rsi, WINDOW + 0x40000000
    mov eax, [rsi + TARGET]
    check_eq rax, 0x11111111
    mov eax, [POINTERS + 8]
    and eax, PTE_A | PTE_D
    check_eq rax, PTE_A
    mov dword [rsi + TARGET + 8], 0x99999999
    mov eax, [POINTERS + 8]
    and eax, PTE_A | PTE_D
    check_eq rax, PTE_A | PTE_D
    mov eax, [TARGET + 8]
    mov edx, 0x99999999
    check_eq rax, rdx
    mov qword [POINTERS + 8], RWU | PTE_PS | (1 << 13)
    invlpg [rsi + 0x12345678]
    mov rcx, WINDOW + 0x40000000 + TARGET
    expect_fault PF_P | PF_R, rcx, mov eax, [rsi + TARGET]
    ; INVLPG of one part voids all of a large page
    mov qword [DIRECTORY + 8], TARGET | RWU | PTE_PS
    lea rsi, [rbx + 0x200000]
    invlpg [rsi]
    mov eax, [rsi]
    mov eax, [rsi + 0x1000]
    mov dword [TARGET + 0x201000], 0x77777777
    mov qword [DIRECTORY + 8], (TARGET + 0x200000) | RWU | PTE_PS
    invlpg [rsi + 0x5000]
    mov eax, [rsi + 0x1000]
    check_eq rax, 0x77777777

    group "canonical addresses"
    mov rsi, 0x800000000000
    expect V_GP, 0, mov eax, [rsi]
    expect V_GP, 0, mov eax, [rsi - 2]                  ; across the end of the lower half
    xor ebp, ebp
    expect V_SS, 0, mov eax, [rbp + rsi]
    mov rsi, 0xffff7fffffffffff
    expect V_GP, 0, mov al, [rsi]
    mov rcx, 0xffff800000000000
    expect_fault 0, rcx, mov al, [rcx]
    mov rcx, 0x7fffffffffff
    expect_fault 0, rcx, mov al, [rcx]
    mov rcx, -8
    expect_fault 0, rcx, mov al, [rcx]
    mov qword [wide_pointer], rsi
    expect V_GP, 0, jmp [wide_pointer]
    expect V_GP, 0, call [wide_pointer]
    push rsi
    expect V_GP, 0, ret
    pop rsi
    expect_nothing invlpg [rsi]                         ; does nothing
    expect V_GP, 0, lgdt [rsi]
    expect V_GP, 0, mov ss, [rsi]

    group "process contexts"
    ; covers: CPUID pcid
    mov qword [TOP_B], (PAGE_TABLES + 0x1000) | RWU
    mov qword [TOP_B + 8], POINTERS_B | RWU
    mov qword [POINTERS_B], RWU | PTE_PS                ; the window shows address 0 on there
    mov dword [TARGET], 0xa0a0a0a0
    mov dword [0x3000], 0xb0b0b0b0
    window RWU
    mov qword [TABLE + 8 * 3], TARGET | RWU
    mov rcx, TOP | 8                                    ; a context's number while CR4.PCIDE is set
    mov cr3, rcx
    mov rax, cr4
    bts rax, 17
    expect V_GP, 0, mov cr4, rax
    mov rcx, TOP
    mov cr3, rcx
    set_cr4 CR4_PCIDE
    mov eax, [rbx + 0x3000]
    mov edx, 0xa0a0a0a0
    check_eq rax, rdx
    mov r12, TOP_B | 5
    mov cr3, r12
    mov eax, [rbx + 0x3000]
    mov edx, 0xb0b0b0b0
    check_eq rax, rdx
    mov r13, TOP
    bts r13, 63                                         ; keeps what it knows of context 0
    mov cr3, r13
    mov rax, cr3
    check_eq rax, TOP
    mov eax, [rbx + 0x3000]
    mov edx, 0xa0a0a0a0
    check_eq rax, rdx
    bts r12, 63
    mov cr3, r12
    mov eax, [rbx + 0x3000]
    mov edx, 0xb0b0b0b0
    check_eq rax, rdx
    mov rax, cr3
    check_eq rax, TOP_B | 5
    mov rax, cr0
    btr rax, 31
    expect V_GP, 0, mov cr0, rax
    ; a change in one context's tables, then INVPCID of each kind
%macro change_and_forget 2      ; new target, type
    mov cr3, r13
    mov eax, [rbx + 0x3000]
    mov cr3, r12
    mov qword [TABLE + 8 * 3], (%1) | RWU
    mov qword [wide_pointer], 0
    mov rax, WINDOW + 0x3000
    mov [wide_pointer + 8], rax
    mov eax, %2
    invpcid rax, [wide_pointer]
    mov cr3, r13
    mov eax, [rbx + 0x3000]
    mov edx, [%1]
    check_eq rax, rdx
%endmacro
    mov dword [TARGET + 0x1000], 0xc0c0c0c0
    change_and_forget TARGET + 0x1000, 0
    change_and_forget TARGET, 1
    change_and_forget TARGET + 0x1000, 2
    change_and_forget TARGET, 3
    mov eax, 4
    expect V_GP, 0, invpcid rax, [wide_pointer]
    mov qword [wide_pointer], 0x1000
    mov eax, 0
    expect V_GP, 0, invpcid rax, [wide_pointer]
    mov qword [wide_pointer], 1
    mov rcx, 0x800000000000
    mov [wide_pointer + 8], rcx
    expect V_GP, 0, invpcid rax, [wide_pointer]
    user_expect V_GP, 0, invpcid rax, [wide_pointer]
    expect V_UD, 0, db 0x66, 0x0f, 0x38, 0x82, 0xc0     ; INVPCID of a register
    ; INVLPG takes away global translations of any context
    set_cr4 CR4_PGE
    mov qword [TABLE + 8 * 3], TARGET | RWU | PTE_G
    mov qword [POINTERS_B], DIRECTORY | RWU             ; both contexts see the same
    mov rax, TOP_B | 5
    mov cr3, rax
    mov eax, [rbx + 0x3000]
    mov rax, TOP
    mov cr3, rax
    mov eax, [rbx + 0x3000]
    mov qword [TABLE + 8 * 3], (TARGET + 0x1000) | RWU | PTE_G
    invlpg [rbx + 0x3000]
    mov cr3, r12
    mov eax, [rbx + 0x3000]
    mov edx, 0xc0c0c0c0
    check_eq rax, rdx
    mov rax, TOP
    mov cr3, rax
    mov rax, cr4
    and rax, ~(CR4_PCIDE | CR4_PGE)
    mov cr4, rax

    group "protection keys"
    ; covers: CPUID pku
    window RWU
    expect V_UD, 0, rdpkru
    set_cr4 CR4_PKE
    xor ecx, ecx
    xor eax, eax
    xor edx, edx
    wrpkru
    mov rax, 0x1800000000000000 | TARGET | RWU          ; key 3
    mov [TABLE], rax
    invlpg [rbx]
    user_run mov [rbx + 8], eax
    mov eax, 2 << 6                                     ; write-disable
    wrpkru
    rdpkru
    check_eq rax, 2 << 6
    user_run mov eax, [rbx]
    xor edx, edx
    user_fault PF_P | PF_U | PF_W | PF_K, WINDOW + 8, mov [rbx + 8], eax
    expect_nothing mov [rbx + 8], eax                   ; CR0.WP is off
    mov rax, cr0
    bts rax, 16
    mov cr0, rax
    expect_fault PF_P | PF_W | PF_K, WINDOW + 8, mov [rbx + 8], eax
    mov rax, cr0
    btr rax, 16
    mov cr0, rax
    xor ecx, ecx
    xor edx, edx
    mov eax, 1 << 6                                     ; access-disable
    wrpkru
    user_fault PF_P | PF_U | PF_K, WINDOW, mov eax, [rbx]
    expect_fault PF_P | PF_K, WINDOW, mov eax, [rbx]
    user_call_window                                    ; fetches are free
    check_eq [event.vector], USER_DONE
    mov rax, 0x1800000000000000 | TARGET | PTE_P | PTE_W
    mov [TABLE], rax                                    ; keys concern user pages only
    invlpg [rbx]
    expect_nothing mov eax, [rbx]
    xor edx, edx
    mov ecx, 1
    expect V_GP, 0, rdpkru
    expect V_GP, 0, wrpkru
    xor ecx, ecx
    mov edx, 1
    expect V_GP, 0, wrpkru
    xor edx, edx
    xor eax, eax
    user_run wrpkru
    user_run rdpkru
    check_eq rax, 0
    clear_cr4 CR4_PKE

    group "SMEP and SMAP"
    mov rdi, PAGE_TABLES + 0x2000
.supervisor:
    and qword [rdi], ~PTE_U
    add rdi, 8
    cmp rdi, PAGE_TABLES + 0x6000
    jb .supervisor
    mov rax, cr3
    mov cr3, rax
    window RWU
    set_cr4 CR4_SMEP
    call_window
    check_fetch PF_P | PF_I
    mov eax, [rbx]
    set_cr4 CR4_SMAP
    expect_fault PF_P, WINDOW, mov eax, [rbx]
    expect_fault PF_P | PF_W, WINDOW + 8, mov [rbx + 8], eax
    stac
    expect_nothing mov eax, [rbx]
    clac
    window PTE_P | PTE_W
    expect_nothing mov eax, [rbx]
    call_window
    check_eq [event.vector], NONE
    finish

align 8
wide_pointer:   dq 0, 0
