/** `1/5.4` or `1.3×` of it. */
export function ratioText(ours: number, theirs: number): string {
  if (!(ours > 0) || !(theirs > 0)) return '-'
  return ours < theirs ? `1/${(theirs / ours).toFixed(1)}` : `${(ours / theirs).toFixed(2)}×`
}
