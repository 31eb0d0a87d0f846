//! The standard normal distribution, both ways, to about 15 digits.

/// The share of values that are not above `z`.
///
/// The series of Marsaglia, "Evaluating the Normal Distribution" (2004): `1/2 + φ(z)(z + z³/3 + z⁵/15
/// + …)`. It cancels far below the middle, where an absolute error of 1e-15 is left.
pub(super) fn cumulative(z: f64) -> f64 {
    if z < -8.0 {
        return 0.0;
    }
    if 8.0 < z {
        return 1.0;
    }
    let (mut sum, mut term, mut divisor) = (z, z, 1.0);
    while sum.abs() * 1e-17 < term.abs() {
        divisor += 2.0;
        term *= z * z / divisor;
        sum += term;
    }
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    (0.5 + sum * density).clamp(0.0, 1.0)
}

/// The `z` that a share `p` of values are below; `p` is above 0 and below 1.
///
/// Wichura's algorithm AS 241 (Applied Statistics 37, 1988), with 16 digits.
pub(super) fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(&MIDDLE, r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-tail.ln()).sqrt();
    let z = if r <= 5.0 { ratio(&SHOULDER, r - 1.6) } else { ratio(&TAIL, r - 5.0) };
    z.copysign(q)
}

/// A polynomial over another, coefficients from the highest power down.
fn ratio((above, below): &([f64; 8], [f64; 8]), x: f64) -> f64 {
    let value = |of: &[f64; 8]| of.iter().fold(0.0, |sum, coefficient| sum * x + coefficient);
    value(above) / value(below)
}

const MIDDLE: ([f64; 8], [f64; 8]) = (
    [
        2.509_080_928_730_122_672_7e3,
        3.343_057_558_358_812_810_5e4,
        6.726_577_092_700_870_085_3e4,
        4.592_195_393_154_987_145_7e4,
        1.373_169_376_550_946_112_5e4,
        1.971_590_950_306_551_442_7e3,
        1.331_416_678_917_843_774_5e2,
        3.387_132_872_796_366_608_0,
    ],
    [
        5.226_495_278_852_854_561_0e3,
        2.872_908_573_572_194_267_4e4,
        3.930_789_580_009_271_061_0e4,
        2.121_379_430_158_659_586_7e4,
        5.394_196_021_424_751_107_7e3,
        6.871_870_074_920_579_083_0e2,
        4.231_333_070_160_091_125_2e1,
        1.0,
    ],
);

const SHOULDER: ([f64; 8], [f64; 8]) = (
    [
        7.745_450_142_783_414_076_40e-4,
        2.272_384_498_926_918_458_33e-2,
        2.417_807_251_774_506_117_70e-1,
        1.270_458_252_452_368_382_58,
        3.647_848_324_763_204_605_04,
        5.769_497_221_460_691_405_50,
        4.630_337_846_156_545_295_90,
        1.423_437_110_749_683_577_34,
    ],
    [
        1.050_750_071_644_416_843_24e-9,
        5.475_938_084_995_344_946_00e-4,
        1.519_866_656_361_645_719_66e-2,
        1.481_039_764_274_800_745_90e-1,
        6.897_673_349_851_000_045_50e-1,
        1.676_384_830_183_803_849_40,
        2.053_191_626_637_758_821_87,
        1.0,
    ],
);

const TAIL: ([f64; 8], [f64; 8]) = (
    [
        2.010_334_399_292_288_132_65e-7,
        2.711_555_568_743_487_578_15e-5,
        1.242_660_947_388_078_438_60e-3,
        2.653_218_952_657_612_309_30e-2,
        2.965_605_718_285_048_912_30e-1,
        1.784_826_539_917_291_335_80,
        5.463_784_911_164_114_369_90,
        6.657_904_643_501_103_777_20,
    ],
    [
        2.044_263_103_389_939_785_64e-15,
        1.421_511_758_316_445_888_70e-7,
        1.846_318_317_510_054_681_80e-5,
        7.868_691_311_456_132_591_00e-4,
        1.487_536_129_085_061_485_25e-2,
        1.369_298_809_227_358_053_10e-1,
        5.998_322_065_558_879_376_90e-1,
        1.0,
    ],
);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lead_back() {
        for step in -70..=70 {
            let z = f64::from(step) / 10.0;
            // Above the middle, shares close to 1 have fewer digits left.
            let tolerance = if z < 5.0 { 1e-6 } else { 1e-2 };
            let back = quantile(cumulative(z));
            assert!(z < -5.5 || (back - z).abs() < tolerance, "{z}: {back}");
        }
    }

    #[test]
    fn published_quantiles_are_met() {
        let table = [
            (0.5, 0.0),
            (0.25, -0.674_489_750_196_081_7),
            (0.001, -3.090_232_306_167_813_5),
            (1e-20, -9.262_340_089_798_408),
            (0.975, 1.959_963_984_540_054),
        ];
        for (p, z) in table {
            assert!((quantile(p) - z).abs() < 1e-13, "{p}: {}", quantile(p));
        }
        assert_eq!((cumulative(-9.0), cumulative(9.0), cumulative(0.0)), (0.0, 1.0, 0.5));
    }
}
