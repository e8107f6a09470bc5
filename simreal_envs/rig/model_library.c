/* The model library that a Panda sends to its clients: kinematics and dynamics of the served arm.
 *
 * The functions' names and signatures are libfranka's (libfcimodels.h). Matrices are column-major. Frames 1 to 7
 * are the joints', 8 is the flange, 9 is given by a transform from the flange. Links' frames follow Craig's
 * (modified) Denavit-Hartenberg convention. LINKS is defined by the compiler's command line: for each link mass,
 * centre of mass (3) and inertia about it (3x3, row-major), in the link's frame.
 *
 * Dynamics by recursive Newton-Euler (Luh, Walker, Paul: "On-line computational scheme for mechanical
 * manipulators", 1980); a column of the mass matrix is the torque that a unit acceleration takes.
 */
#include <math.h>
#include <string.h>

#define JOINTS 7
#define BODIES 8 /* the links and the payload, fixed to the flange */

static const double A[BODIES] = {0, 0, 0, 0.0825, -0.0825, 0, 0.088, 0};
static const double D[BODIES] = {0.333, 0, 0.316, 0, 0.384, 0, 0, 0.107};
static const double COS_ALPHA[BODIES] = {1, 0, 0, 0, 0, 0, 0, 1};
static const double SIN_ALPHA[BODIES] = {0, -1, 1, 1, -1, 1, 1, 0};

typedef struct {
  double mass, centre[3], inertia[9];
} Body;

static const Body LINK[JOINTS] = LINKS;

static void cross(const double a[3], const double b[3], double out[3]) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

/* out = M v, or its transpose's product; M row-major. */
static void rotate(const double m[9], const double v[3], double out[3]) {
  for (int i = 0; i < 3; i++) out[i] = m[3 * i] * v[0] + m[3 * i + 1] * v[1] + m[3 * i + 2] * v[2];
}

static void rotate_back(const double m[9], const double v[3], double out[3]) {
  for (int i = 0; i < 3; i++) out[i] = m[i] * v[0] + m[3 + i] * v[1] + m[6 + i] * v[2];
}

/* Rotation (row-major) and origin of a link's frame in the one before. */
static void step(const double q[JOINTS], int i, double r[9], double p[3]) {
  double c = i < JOINTS ? cos(q[i]) : 1, s = i < JOINTS ? sin(q[i]) : 0, ca = COS_ALPHA[i], sa = SIN_ALPHA[i];
  double rotation[9] = {c, -s, 0, s * ca, c * ca, -sa, s * sa, c * sa, ca};
  memcpy(r, rotation, sizeof rotation);
  p[0] = A[i], p[1] = -sa * D[i], p[2] = ca * D[i];
}

static void multiply(const double a[16], const double b[16], double out[16]) {
  double product[16];
  for (int j = 0; j < 4; j++)
    for (int i = 0; i < 4; i++) {
      double sum = 0;
      for (int k = 0; k < 4; k++) sum += a[i + 4 * k] * b[k + 4 * j];
      product[i + 4 * j] = sum;
    }
  memcpy(out, product, sizeof product);
}

/* Poses of the joints and of the flange in the base frame. */
static void poses(const double q[JOINTS], double t[BODIES][16]) {
  double before[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  for (int i = 0; i < BODIES; i++) {
    double r[9], p[3];
    step(q, i, r, p);
    double local[16] = {r[0], r[3], r[6], 0, r[1], r[4], r[7], 0, r[2], r[5], r[8], 0, p[0], p[1], p[2], 1};
    multiply(before, local, t[i]);
    memcpy(before, t[i], sizeof before);
  }
}

/* Pose of frame 1 to 9 in the base frame; `flange_to_end` is read for frame 9 only. */
static void pose(const double q[JOINTS], int frame, const double *flange_to_end, double out[16]) {
  double t[BODIES][16];
  poses(q, t);
  if (frame <= BODIES)
    memcpy(out, t[frame - 1], sizeof t[0]);
  else
    multiply(t[BODIES - 1], flange_to_end, out);
}

/* Jacobian (6 x 7) of frame 1 to 9, in the base's axes or in the frame's own. */
static void jacobian(const double q[JOINTS], int frame, const double *flange_to_end, int own_axes, double *out) {
  double t[BODIES][16], end[16];
  poses(q, t);
  pose(q, frame, flange_to_end, end);
  memset(out, 0, 6 * JOINTS * sizeof *out);
  for (int i = 0; i < JOINTS && i < frame; i++) {
    const double *axis = &t[i][8], *origin = &t[i][12];
    double arm[3] = {end[12] - origin[0], end[13] - origin[1], end[14] - origin[2]}, twist[6];
    cross(axis, arm, twist);
    memcpy(twist + 3, axis, 3 * sizeof *axis);
    for (int k = 0; k < 3; k++)
      for (int part = 0; part < 6; part += 3) {
        const double *v = twist + part, *e = end + 4 * k;
        out[6 * i + part + k] = own_axes ? e[0] * v[0] + e[1] * v[1] + e[2] * v[2] : v[k];
      }
  }
}

/* Joint torques for a motion; `up` is the base's acceleration against gravity. */
static void newton_euler(const double q[JOINTS], const double *dq, const double *ddq, const double up[3],
                         const Body *payload, double tau[JOINTS]) {
  double r[BODIES][9], p[BODIES][3], force[BODIES][3], torque[BODIES][3];
  double w[3] = {0}, dw[3] = {0}, a[3] = {up[0], up[1], up[2]};
  for (int i = 0; i < BODIES; i++) {
    step(q, i, r[i], p[i]);
    const Body *body = i < JOINTS ? &LINK[i] : payload;
    double u[3], v[3], w_next[3], dw_next[3], a_next[3];
    cross(dw, p[i], u);
    cross(w, p[i], v);
    cross(w, v, a_next);
    for (int k = 0; k < 3; k++) u[k] += a_next[k] + a[k];
    rotate_back(r[i], u, a_next);
    rotate_back(r[i], w, w_next);
    rotate_back(r[i], dw, dw_next);
    if (i < JOINTS) {
      dw_next[0] += w_next[1] * dq[i];
      dw_next[1] -= w_next[0] * dq[i];
      dw_next[2] += ddq[i];
      w_next[2] += dq[i];
    }
    memcpy(w, w_next, sizeof w), memcpy(dw, dw_next, sizeof dw), memcpy(a, a_next, sizeof a);

    cross(w, body->centre, u);
    cross(w, u, v);
    cross(dw, body->centre, u);
    for (int k = 0; k < 3; k++) force[i][k] = body->mass * (a[k] + u[k] + v[k]);
    rotate(body->inertia, w, u);
    cross(w, u, v);
    rotate(body->inertia, dw, u);
    cross(body->centre, force[i], torque[i]);
    for (int k = 0; k < 3; k++) torque[i][k] += u[k] + v[k];
  }
  for (int i = BODIES - 1; i >= 0; i--) {
    if (i < JOINTS) tau[i] = torque[i][2];
    if (i == 0) break;
    double f[3], n[3], moment[3];
    rotate(r[i], force[i], f);
    rotate(r[i], torque[i], n);
    cross(p[i], f, moment);
    for (int k = 0; k < 3; k++) force[i - 1][k] += f[k], torque[i - 1][k] += n[k] + moment[k];
  }
}

static Body payload(double mass, const double centre[3], const double *inertia) {
  Body body = {.mass = mass};
  memcpy(body.centre, centre, sizeof body.centre);
  if (inertia) memcpy(body.inertia, inertia, sizeof body.inertia);
  return body;
}

static const double NONE[JOINTS];

void M_NE(const double q[7], const double I[9], double m, const double x[3], double out[49]) {
  Body end = payload(m, x, I);
  for (int j = 0; j < JOINTS; j++) {
    double unit[JOINTS] = {0};
    unit[j] = 1;
    newton_euler(q, NONE, unit, NONE, &end, out + JOINTS * j);
  }
}

void c_NE(const double q[7], const double dq[7], const double I[9], double m, const double x[3], double out[7]) {
  Body end = payload(m, x, I);
  newton_euler(q, dq, NONE, NONE, &end, out);
}

void g_NE(const double q[7], const double gravity[3], double m, const double x[3], double out[7]) {
  Body end = payload(m, x, 0);
  double up[3] = {-gravity[0], -gravity[1], -gravity[2]};
  newton_euler(q, NONE, NONE, up, &end, out);
}

#define FRAME(n)                                                                  \
  void O_T_J##n(const double q[7], double out[16]) { pose(q, n, 0, out); }        \
  void O_J_J##n(const double q[7], double out[42]) { jacobian(q, n, 0, 0, out); } \
  void Ji_J_J##n(const double q[7], double out[42]) { jacobian(q, n, 0, 1, out); }

FRAME(2) FRAME(3) FRAME(4) FRAME(5) FRAME(6) FRAME(7) FRAME(8)

void O_T_J1(const double q[7], double out[16]) { pose(q, 1, 0, out); }
void O_J_J1(double out[42]) { jacobian(NONE, 1, 0, 0, out); }
void Ji_J_J1(double out[42]) { jacobian(NONE, 1, 0, 1, out); }
void O_T_J9(const double q[7], const double end[16], double out[16]) { pose(q, 9, end, out); }
void O_J_J9(const double q[7], const double end[16], double out[42]) { jacobian(q, 9, end, 0, out); }
void Ji_J_J9(const double q[7], const double end[16], double out[42]) { jacobian(q, 9, end, 1, out); }
