; PAE paging: page-directory pointers held by the processor, 2 MiB pages, execute-disable, reserved bits, SMEP and SMAP:
; SDM volume 3, "PAE Paging" and "Access Rights".
%include "guest.inc"

POINTERS    equ PAGE_TABLES
DIRECTORY0  equ PAGE_TABLES + 0x1000
DIRECTORY1  equ PAGE_TABLES + 0x2000
TABLE       equ PAGE_TABLES + 0x3000
WINDOW      equ 0x40000000              ; second GiB
TARGET      equ 0x600000
LOCAL       equ GDT_FREE

%macro window 2                 ; low and high word of the page-table entry, without the address
    mov dword [TABLE], TARGET | (%1)
    mov dword [TABLE + 4], %2
    invlpg [WINDOW]
%endmacro
%macro expect_fault 3+.nolist
    expect V_PF, %1, %3
    check_eq [event.cr2], %2
%endmacro
%macro user_fault 3+.nolist
    user_expect V_PF, %1, %3
    check_eq [event.cr2], %2
%endmacro
%macro set_cr4 1
    mov eax, cr4
    or eax, %1
    mov cr4, eax
%endmacro
%macro clear_cr4 1
    mov eax, cr4
    and eax, ~(%1)
    mov cr4, eax
%endmacro

main:
    mov edi, POINTERS
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
    mov dword [POINTERS], DIRECTORY0 | PTE_P
    mov dword [POINTERS + 8], DIRECTORY1 | PTE_P
    mov edi, DIRECTORY0
    mov eax, PTE_P | PTE_W | PTE_U | PTE_PS
.identity:
    mov [edi], eax
    add edi, 8
    add eax, 0x200000
    cmp edi, DIRECTORY0 + 0x1000
    jb .identity
    mov dword [DIRECTORY1], TABLE | PTE_P | PTE_W | PTE_U
    mov dword [TARGET], 0x11111111
    mov byte [TARGET + 0x10], 0xc3
    set_cr4 CR4_PAE
    mov eax, POINTERS
    mov cr3, eax
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax

    group "rights"
    ; covers: CPUID pae
    window 0, 0
    expect_fault 0, WINDOW, mov eax, [WINDOW]
    user_fault PF_U | PF_W, WINDOW, mov [WINDOW], eax
    expect_fault 0, 0x80000000, mov eax, [0x80000000]   ; no directory for the third GiB
    user_fault PF_U, 0xc0000000, mov eax, [0xc0000000]
    window PTE_P | PTE_W, 0
    mov eax, [WINDOW]
    check_eq eax, 0x11111111
    user_fault PF_P | PF_U, WINDOW, mov eax, [WINDOW]
    mov eax, [TABLE]
    and eax, 0xfff
    check_eq eax, PTE_P | PTE_W | PTE_A
    window PTE_P | PTE_U, 0
    user_fault PF_P | PF_U | PF_W, WINDOW, mov [WINDOW], eax
    user_run call WINDOW + 0x10
    expect_nothing call WINDOW + 0x10

    group "reserved bits"
    ; covers: reserved bits
    window PTE_P | PTE_W | PTE_U, 0x00100000            ; bit 52
    expect_fault PF_P | PF_R, WINDOW, mov eax, [WINDOW]
    window PTE_P | PTE_W | PTE_U, 0x40000000            ; bit 62
    user_fault PF_P | PF_R | PF_U | PF_W, WINDOW, mov [WINDOW], eax
    window PTE_P | PTE_W | PTE_U, 0x80000000            ; bit 63 while EFER.NXE is clear
    expect_fault PF_P | PF_R, WINDOW, mov eax, [WINDOW]
    expect_at V_PF, PF_P | PF_R, WINDOW + 0x10, call WINDOW + 0x10
    add esp, 4
    window 0, 0xffffffff                                ; not present: nothing else counts
    expect_fault 0, WINDOW, mov eax, [WINDOW]
    mov dword [DIRECTORY1 + 4], 0x00200000
    window PTE_P | PTE_W, 0
    expect_fault PF_P | PF_R, WINDOW, mov eax, [WINDOW]
    mov dword [DIRECTORY1 + 4], 0
    mov dword [DIRECTORY1 + 8], 0x600000 | PTE_P | PTE_W | PTE_PS | (1 << 13)
    expect_fault PF_P | PF_R, WINDOW + 0x200000, mov eax, [WINDOW + 0x200000]
    mov dword [DIRECTORY1 + 8], 0x600000 | PTE_P | PTE_W | PTE_PS | (1 << 12)   ; PAT
    mov eax, [WINDOW + 0x200000]
    check_eq eax, 0x11111111

    group "page-directory pointers"
    mov dword [POINTERS + 16], DIRECTORY1 | PTE_P       ; loaded with CR3 only
    expect_fault 0, 0x80200000, mov eax, [0x80200000]
    mov eax, POINTERS
    mov cr3, eax
    mov eax, [0x80200000]
    check_eq eax, 0x11111111
    mov dword [POINTERS + 16], DIRECTORY1 | PTE_P | PTE_W
    mov eax, POINTERS
    expect V_GP, 0, mov cr3, eax                        ; reserved bit
    mov dword [POINTERS + 16], DIRECTORY1 | PTE_P | PTE_U
    expect V_GP, 0, mov cr3, eax
    mov dword [POINTERS + 16], DIRECTORY1 | PTE_P | 0x20
    expect V_GP, 0, mov cr3, eax
    mov dword [POINTERS + 16], DIRECTORY1 | PTE_P
    mov dword [POINTERS + 20], 0x80000000
    expect V_GP, 0, mov cr3, eax
    mov ebx, cr0
    mov ecx, ebx
    xor ecx, CR0_CD
    expect V_GP, 0, mov cr0, ecx                        ; changes of CD load them, too
    mov dword [POINTERS + 20], 0
    mov dword [POINTERS + 16], 0xfffff000 & ~PTE_P      ; not present: nothing else counts
    expect_nothing mov cr3, eax
    expect_fault 0, 0x80200000, mov eax, [0x80200000]

    group "execute disable"
    ; covers: CPUID nx
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_NXE
    wrmsr
    window PTE_P | PTE_W | PTE_U, 0x80000000
    mov eax, [WINDOW]
    check_eq eax, 0x11111111
    expect_at V_PF, PF_P | PF_I, WINDOW + 0x10, call WINDOW + 0x10
    add esp, 4
    check_eq [event.cr2], WINDOW + 0x10
    user_expect_at V_PF, PF_P | PF_I | PF_U, WINDOW + 0x10, call WINDOW + 0x10
    window 0, 0
    expect_at V_PF, PF_I, WINDOW + 0x10, call WINDOW + 0x10     ; a fetch is named with NXE even where nothing is
    add esp, 4
    mov dword [DIRECTORY1 + 4], 0x80000000
    window PTE_P | PTE_W | PTE_U, 0
    user_run mov eax, [WINDOW]
    user_expect_at V_PF, PF_P | PF_I | PF_U, WINDOW + 0x10, call WINDOW + 0x10
    mov dword [DIRECTORY1 + 4], 0
    invlpg [WINDOW]
    user_run call WINDOW + 0x10
    ; an instruction that reaches into a page that must not be executed
    mov dword [TABLE + 8], (TARGET + 0x1000) | PTE_P | PTE_W | PTE_U
    mov dword [TABLE + 12], 0x80000000
    mov byte [TARGET + 0xfff], 0xb0
    mov byte [TARGET + 0x1000], 0x12
    expect_at V_PF, PF_P | PF_I, WINDOW + 0xfff, call WINDOW + 0xfff
    add esp, 4
    check_eq [event.cr2], WINDOW + 0x1000

    group "SMEP"
    ; covers: CPUID smep
    window PTE_P | PTE_W | PTE_U, 0
    call WINDOW + 0x10
    ; what runs now is on user pages, too
    mov edi, DIRECTORY0
.supervisor:
    and dword [edi], ~PTE_U
    add edi, 8
    cmp edi, DIRECTORY0 + 0x1000
    jb .supervisor
    mov eax, cr3
    mov cr3, eax
    set_cr4 CR4_SMEP
    expect_at V_PF, PF_P | PF_I, WINDOW + 0x10, call WINDOW + 0x10
    add esp, 4
    mov eax, [WINDOW]
    check_eq eax, 0x11111111
    mov dword [TABLE], TARGET | PTE_P | PTE_W
    invlpg [WINDOW]
    expect_nothing call WINDOW + 0x10
    clear_cr4 CR4_SMEP

    group "SMAP"
    ; covers: CPUID smap
    window PTE_P | PTE_W | PTE_U, 0
    mov eax, [WINDOW]
    set_cr4 CR4_SMAP
    expect_fault PF_P, WINDOW, mov eax, [WINDOW]
    expect_fault PF_P | PF_W, WINDOW, mov [WINDOW], eax
    expect_nothing call WINDOW + 0x10
    stac
    mov eax, [WINDOW]
    mov [WINDOW], eax
    clac
    expect_fault PF_P, WINDOW, cmp [WINDOW], eax
    push dword FLAG_AC | 2
    popfd
    mov eax, [WINDOW]
    push dword 2
    popfd
    expect_fault PF_P | PF_W, WINDOW, inc dword [WINDOW]
    ; accesses of the processor's own are never excused by AC
    set_descriptor LOCAL, 0, 0xff, ACCESS_LDT, FLAGS_BYTES16
    set_base LOCAL, WINDOW + 0x800
    mov eax, LOCAL
    lldt ax
    mov eax, 8 + 4
    stac
    expect_fault PF_P, WINDOW + 0x808, mov es, eax
    clac
    expect V_UD, 0, db 0xf0, 0x0f, 0x01, 0xca
    clear_cr4 CR4_SMAP
    mov eax, [WINDOW]
    check_eq eax, 0x11111111
    finish
