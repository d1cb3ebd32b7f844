// Exponentials over a vector class (Vec of devices/cpu/<isa>/vec.h).
#pragma once

#include <cstdint>

namespace quench {
namespace {

// 2^f for |f| <= 0.5. Polynomial of degree 5 with p(0) = 1, fitted by Lawson's iteration to the
// relative error: at most 9.2e-8 before rounding, 2.1e-7 with it.
template <class V>
inline typename V::F exp2_fraction(typename V::F f) {
  typename V::F p = V::set1(1.3264727256e-03f);
  p = V::fma(p, f, V::set1(9.6715127002e-03f));
  p = V::fma(p, f, V::set1(5.5507337437e-02f));
  p = V::fma(p, f, V::set1(2.4022242084e-01f));
  p = V::fma(p, f, V::set1(6.9314697760e-01f));
  return V::fma(p, f, V::set1(1.0f));
}

// 2^t for t < 127; 0 below -126 (no subnormal results); NaN stays NaN.
template <class V>
inline typename V::F exp2(typename V::F t) {
  const typename V::F n = V::round(t);
  return V::scale_by_power(exp2_fraction<V>(V::sub(t, n)), n, t);
}

// e^x for x < 88: the fraction is reduced in two steps (Cody and Waite 1980), so the relative error
// stays below 3e-7 for large |x| too; 0 below -87.3.
template <class V>
inline typename V::F exp(typename V::F x) {
  const typename V::F t = V::mul(x, V::set1(1.44269504f));
  const typename V::F n = V::round(t);
  // ln 2 = 0.693145752 (9 trailing zero bits, so n times it is exact) + 1.42860677e-6.
  typename V::F r = V::fnma(n, V::set1(0.693145752f), x);
  r = V::fnma(n, V::set1(1.42860677e-06f), r);
  return V::scale_by_power(exp2_fraction<V>(V::mul(r, V::set1(1.44269504f))), n, t);
}

// 1 / (1 + e^-x). Beyond +-87 the exponential is clamped; the result is then 0 or 1 to f32
// precision.
template <class V>
inline typename V::F sigmoid(typename V::F x) {
  const typename V::F one = V::set1(1.0f);
  const typename V::F e = exp<V>(V::sub(V::zero(), V::max(V::set1(-87.0f), x)));
  return V::div(one, V::add(one, e));
}

}  // namespace
}  // namespace quench
