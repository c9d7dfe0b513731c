/* The opcode tables of MMX, SSE and SSE2. */
#include "hypervisor/soft/fp_ops.h"

#define M F_MODRM
#define R(name, form)                  \
	{                              \
		op_##name, form, #name \
	}
#define N(name, fn, form)            \
	{                            \
		op_##fn, form, #name \
	}
#define NONE                  \
	{                     \
		NULL, 0, NULL \
	}
/* MMX and SSE2 forms of the same. */
#define BOTH(name)                                       \
	{                                                \
		R(mmx_##name, M), R(name, M), NONE, NONE \
	}
#define FOUR(name)                                                             \
	{                                                                      \
		R(name##ps, M), R(name##pd, M), R(name##ss, M), R(name##sd, M) \
	}

/* No instruction, but as long as one: its bytes are fetched before #UD. */
#define UNDEFINED(form)                                \
	{                                              \
		{ NULL, form, NULL }, NONE, NONE, NONE \
	}

/* clang-format off */
const struct opcode simd_0f[256][4] = {
	/*	   none			66	F3	F2 */
	[0x0f] = UNDEFINED(M | F_IMM8),
	[0x10] = { N(movups, movups_load, M), N(movupd, movups_load, M),
		   N(movss, movss_load, M), N(movsd, movsd_load, M) },
	[0x11] = { N(movups, movups_store, M), N(movupd, movups_store, M),
		   N(movss, movss_store, M), N(movsd, movsd_store, M) },
	[0x12] = { N(movlps, movlps_load, M),
		   N(movlpd, movlps_load, M | F_MEMONLY), NONE, NONE },
	[0x13] = { N(movlps, movlps_store, M | F_MEMONLY),
		   N(movlpd, movlps_store, M | F_MEMONLY), NONE, NONE },
	[0x14] = { R(unpcklps, M), R(unpcklpd, M), NONE, NONE },
	[0x15] = { R(unpckhps, M), R(unpckhpd, M), NONE, NONE },
	[0x16] = { N(movhps, movhps_load, M),
		   N(movhpd, movhps_load, M | F_MEMONLY), NONE, NONE },
	[0x17] = { N(movhps, movhps_store, M | F_MEMONLY),
		   N(movhpd, movhps_store, M | F_MEMONLY), NONE, NONE },
	[0x28] = { N(movaps, movaps_load, M), N(movapd, movaps_load, M),
		   NONE, NONE },
	[0x29] = { N(movaps, movaps_store, M), N(movapd, movaps_store, M),
		   NONE, NONE },
	[0x2a] = { R(cvtpi2ps, M), R(cvtpi2pd, M),
		   R(cvtsi2ss, M), R(cvtsi2sd, M) },
	[0x2b] = { N(movntps, movaps_store, M | F_MEMONLY),
		   N(movntpd, movaps_store, M | F_MEMONLY), NONE, NONE },
	[0x2c] = { R(cvttps2pi, M), R(cvttpd2pi, M),
		   R(cvttss2si, M), R(cvttsd2si, M) },
	[0x2d] = { R(cvtps2pi, M), R(cvtpd2pi, M),
		   R(cvtss2si, M), R(cvtsd2si, M) },
	[0x2e] = { R(ucomiss, M), R(ucomisd, M), NONE, NONE },
	[0x2f] = { R(comiss, M), R(comisd, M), NONE, NONE },
	[0x50] = { R(movmskps, M | F_REGONLY), R(movmskpd, M | F_REGONLY),
		   NONE, NONE },
	[0x51] = FOUR(sqrt),
	[0x52] = { R(rsqrtps, M), NONE, R(rsqrtss, M), NONE },
	[0x53] = { R(rcpps, M), NONE, R(rcpss, M), NONE },
	[0x54] = { R(andps, M), N(andpd, andps, M), NONE, NONE },
	[0x55] = { R(andnps, M), N(andnpd, andnps, M), NONE, NONE },
	[0x56] = { R(orps, M), N(orpd, orps, M), NONE, NONE },
	[0x57] = { R(xorps, M), N(xorpd, xorps, M), NONE, NONE },
	[0x58] = FOUR(add),
	[0x59] = FOUR(mul),
	[0x5a] = { R(cvtps2pd, M), R(cvtpd2ps, M),
		   R(cvtss2sd, M), R(cvtsd2ss, M) },
	[0x5b] = { R(cvtdq2ps, M), R(cvtps2dq, M), R(cvttps2dq, M), NONE },
	[0x5c] = FOUR(sub),
	[0x5d] = FOUR(min),
	[0x5e] = FOUR(div),
	[0x5f] = FOUR(max),
	[0x60] = BOTH(punpcklbw),
	[0x61] = BOTH(punpcklwd),
	[0x62] = BOTH(punpckldq),
	[0x63] = BOTH(packsswb),
	[0x64] = BOTH(pcmpgtb),
	[0x65] = BOTH(pcmpgtw),
	[0x66] = BOTH(pcmpgtd),
	[0x67] = BOTH(packuswb),
	[0x68] = BOTH(punpckhbw),
	[0x69] = BOTH(punpckhwd),
	[0x6a] = BOTH(punpckhdq),
	[0x6b] = BOTH(packssdw),
	[0x6c] = { NONE, R(punpcklqdq, M), NONE, NONE },
	[0x6d] = { NONE, R(punpckhqdq, M), NONE, NONE },
	[0x6e] = { N(movd, mmx_movd_load, M), N(movd, movd_load, M),
		   NONE, NONE },
	[0x6f] = { N(movq, mmx_movq_load, M), N(movdqa, movaps_load, M),
		   N(movdqu, movups_load, M), NONE },
	[0x70] = { N(pshufw, mmx_pshufw, M | F_IMM8), R(pshufd, M | F_IMM8),
		   R(pshufhw, M | F_IMM8), R(pshuflw, M | F_IMM8) },
	[0x71] = { N(group12, mmx_group12, M | F_IMM8 | F_REGONLY),
		   R(group12, M | F_IMM8 | F_REGONLY), NONE, NONE },
	[0x72] = { N(group13, mmx_group13, M | F_IMM8 | F_REGONLY),
		   R(group13, M | F_IMM8 | F_REGONLY), NONE, NONE },
	[0x73] = { N(group14, mmx_group14, M | F_IMM8 | F_REGONLY),
		   R(group14, M | F_IMM8 | F_REGONLY), NONE, NONE },
	[0x74] = BOTH(pcmpeqb),
	[0x75] = BOTH(pcmpeqw),
	[0x76] = BOTH(pcmpeqd),
	[0x77] = { R(emms, F_NONE), NONE, NONE, NONE },
	[0x78] = UNDEFINED(M | F_IMM16),
	[0x79] = UNDEFINED(M),
	[0x7e] = { N(movd, mmx_movd_store, M), N(movd, movd_store, M),
		   N(movq, movq_load, M), NONE },
	[0x7f] = { N(movq, mmx_movq_store, M), N(movdqa, movaps_store, M),
		   N(movdqu, movups_store, M), NONE },
	[0xae] = { R(group15, M), NONE, NONE, NONE },
	[0xb8] = UNDEFINED(M),
	[0xc2] = { R(cmpps, M | F_IMM8), R(cmppd, M | F_IMM8),
		   R(cmpss, M | F_IMM8), R(cmpsd, M | F_IMM8) },
	[0xc3] = UNDEFINED(M),
	[0xc4] = { N(pinsrw, mmx_pinsrw, M | F_IMM8), R(pinsrw, M | F_IMM8),
		   NONE, NONE },
	[0xc5] = { N(pextrw, mmx_pextrw, M | F_IMM8 | F_REGONLY),
		   R(pextrw, M | F_IMM8 | F_REGONLY), NONE, NONE },
	[0xc6] = { R(shufps, M | F_IMM8), R(shufpd, M | F_IMM8), NONE, NONE },
	[0xd1] = BOTH(psrlw),
	[0xd2] = BOTH(psrld),
	[0xd3] = BOTH(psrlq),
	[0xd4] = BOTH(paddq),
	[0xd5] = BOTH(pmullw),
	[0xd6] = { NONE, N(movq, movq_store, M), R(movq2dq, M | F_REGONLY),
		   R(movdq2q, M | F_REGONLY) },
	[0xd7] = { N(pmovmskb, mmx_pmovmskb, M | F_REGONLY),
		   R(pmovmskb, M | F_REGONLY), NONE, NONE },
	[0xd8] = BOTH(psubusb),
	[0xd9] = BOTH(psubusw),
	[0xda] = BOTH(pminub),
	[0xdb] = BOTH(pand),
	[0xdc] = BOTH(paddusb),
	[0xdd] = BOTH(paddusw),
	[0xde] = BOTH(pmaxub),
	[0xdf] = BOTH(pandn),
	[0xe0] = BOTH(pavgb),
	[0xe1] = BOTH(psraw),
	[0xe2] = BOTH(psrad),
	[0xe3] = BOTH(pavgw),
	[0xe4] = BOTH(pmulhuw),
	[0xe5] = BOTH(pmulhw),
	[0xe6] = { NONE, R(cvttpd2dq, M), R(cvtdq2pd, M), R(cvtpd2dq, M) },
	[0xe7] = { N(movntq, mmx_movq_store, M | F_MEMONLY),
		   N(movntdq, movaps_store, M | F_MEMONLY), NONE, NONE },
	[0xe8] = BOTH(psubsb),
	[0xe9] = BOTH(psubsw),
	[0xea] = BOTH(pminsw),
	[0xeb] = BOTH(por),
	[0xec] = BOTH(paddsb),
	[0xed] = BOTH(paddsw),
	[0xee] = BOTH(pmaxsw),
	[0xef] = BOTH(pxor),
	[0xf0] = UNDEFINED(M),
	[0xf1] = BOTH(psllw),
	[0xf2] = BOTH(pslld),
	[0xf3] = BOTH(psllq),
	[0xf4] = BOTH(pmuludq),
	[0xf5] = BOTH(pmaddwd),
	[0xf6] = BOTH(psadbw),
	[0xf7] = { R(maskmovq, M | F_REGONLY), R(maskmovdqu, M | F_REGONLY),
		   NONE, NONE },
	[0xf8] = BOTH(psubb),
	[0xf9] = BOTH(psubw),
	[0xfa] = BOTH(psubd),
	[0xfb] = BOTH(psubq),
	[0xfc] = BOTH(paddb),
	[0xfd] = BOTH(paddw),
	[0xfe] = BOTH(paddd),
};
/* clang-format on */

const struct opcode simd_0f38[256][4];
const struct opcode simd_0f3a[256][4];
